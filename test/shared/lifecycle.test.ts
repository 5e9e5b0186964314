import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import test from 'ava';

const lifecycle = path.resolve(import.meta.dirname, '..', '..', 'services', 'shared', 'lifecycle.ts');

/** Runs a service whose `start` is the given code; `say` is called with its first message. */
async function run(start: string, meet?: (child: ReturnType<typeof spawn>) => void): Promise<{ status: number | null; output: string }> {
  const code = `import { runService } from ${JSON.stringify(lifecycle)};
    import { SettingsError } from ${JSON.stringify(lifecycle.replace('lifecycle', 'environment'))};
    const log = { info: (a, b) => console.log(b ?? a), error: (a, b) => console.log(b, a.err.message), fatal: (a, b) => console.log(b) };
    await runService('test', async () => { ${start} });`;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, '--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk));
  child.on('message', () => meet?.(child));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, output };
}

test('SIGTERM closes the service and ends with 0', async (t) => {
  const close =
    'const timer = setInterval(() => {}, 1000); return { log, running: { listening: {}, close: async () => { clearInterval(timer); console.log("closed"); } } };';
  const { status, output } = await run(close, (child) => child.kill('SIGTERM'));
  t.is(status, 0);
  t.regex(output, /ready[\s\S]*stopping[\s\S]*closed[\s\S]*stopped/);
});

test('a second signal does not wait for a hanging close', async (t) => {
  const hang =
    'setInterval(() => process.kill(process.pid, "SIGTERM"), 50); return { log, running: { listening: {}, close: () => new Promise(() => {}) } };';
  t.is((await run(hang)).status, 1);
});

test('an invalid setting causes one line and status 2', async (t) => {
  const { status, output } = await run('throw new SettingsError("KURA_X is not a setting");');
  t.is(status, 2);
  t.is(output, 'KURA_X is not a setting\n');
});

test('a fault at the start or later causes status 1', async (t) => {
  const start = await run('throw new Error("no port");');
  t.is(start.status, 1);
  const { level, service, err } = JSON.parse(start.output);
  t.deepEqual([level, service, err.message], ['fatal', 'test', 'no port'], 'one log line');
  const later = await run(
    'setTimeout(() => { throw new Error("bug"); }, 50); return { log, running: { listening: {}, close: async () => {} } };',
  );
  t.is(later.status, 1);
  t.regex(later.output, /unexpected fault/);
});

test('a close that fails causes a log line and status 1', async (t) => {
  const close = 'return { log, running: { listening: {}, close: () => Promise.reject(new Error("stuck")) } };';
  const { status, output } = await run(`const timer = setInterval(() => {}, 1000); ${close}`, (child) => child.kill('SIGTERM'));
  t.is(status, 1);
  t.regex(output, /some parts could not be closed stuck/);
});
