/**
 * `npm run bench:envoy-instructions`: counts the instructions of Envoy for a GET of 4 KiB with callgrind, with the bootstrap of kura and
 * with a plain Envoy. The counts do not depend on other load. Requires valgrind (Debian package). Takes about two minutes.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request } from 'node:http';
import path from 'node:path';
import { promisify } from 'node:util';
import { envoyBinary } from '../../services/local/envoy-binary.ts';
import { startPlainEnvoy } from './envoy.ts';
import { makeTokens, startLocal } from './local.ts';
import { isQuick, makeFolder, progress, requirePrograms } from './run.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..', '..');
const body = Buffer.alloc(4096, 'x');
const requests = isQuick ? 500 : 2_000;
requirePrograms('bench:envoy-instructions', ['valgrind', 'setpriv']);
const folder = makeFolder();
process.env.KURA_ENVOY = countedEnvoy();
// One check for the whole run.
process.env.KURA_AUTHZ_GRANT = '60s';

progress('kura');
const local = await startLocal(folder);
const [token] = await makeTokens(local, 1);
const authorization = `Bearer ${token}`;
const target = '/objects/vision/bench';
const put = await fetch(local.url + target, { method: 'PUT', body, headers: { authorization } });
if (put.status !== 201) throw new Error(`PUT returned ${put.status}`);
const ours = await count(local.processes.envoy as number, local.url + target, authorization);

progress('plain Envoy');
const server = createServer((_, response) => response.end(body)).listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as { port: number };
const upstream = {
  name: 'Node',
  url: `http://127.0.0.1:${port}`,
  metricsUrl: undefined,
  pid: process.pid,
  parts: {},
  stop: async () => {},
};
const plain = await startPlainEnvoy({ server: upstream, folder, port: 18_097, workers: 1 });
const baseline = await count(plain.pid, plain.url + target, authorization);
await plain.stop();

progress('done');
console.log(`\n| GET 4 KiB | instructions |\n| --- | --- |`);
for (const [what, counted] of [
  ['kura', ours],
  ['plain Envoy', baseline],
] as const) {
  console.log(`| ${what} | ${Math.round(counted / 1000)},000 |`);
}
process.exit(0);

/** A program that runs Envoy under callgrind, which counts nothing until it is switched on. */
function countedEnvoy(): string {
  const file = path.join(folder, 'envoy');
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const valgrind = `valgrind --quiet --tool=callgrind --instr-atstart=no --separate-threads=yes --callgrind-out-file=${folder}/callgrind.%p`;
  writeFileSync(file, `#!/bin/sh\nexec ${valgrind} ${binary} "$@"\n`);
  chmodSync(file, 0o755);
  return file;
}

/** Instructions per request of the thread that did most: the worker of the only connection. */
async function count(pid: number, url: string, header: string): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const send = async (times: number): Promise<void> => {
    for (let at = 0; at < times; at += 1) await get(url, header, agent);
  };
  await send(200);
  await control(pid, '--instr=on');
  // Callgrind translates the code again once it counts.
  await send(100);
  await control(pid, '--zero');
  await send(requests);
  await control(pid, '--dump');
  agent.destroy();
  const dumps = readdirSync(folder).filter((name) => name.startsWith(`callgrind.${pid}`));
  const totals = dumps.map((name) => Number(/^totals: (\d+)/m.exec(readFileSync(path.join(folder, name), 'utf8'))?.[1] ?? 0));
  return Math.max(...totals) / requests;
}

async function control(pid: number, action: string): Promise<void> {
  await run('callgrind_control', [action, String(pid)], { timeout: 60_000 });
}

function get(url: string, header: string, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent, headers: { authorization: header } }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`GET returned ${response.statusCode}`));
      response.resume().on('end', resolve).on('error', reject);
    });
    outgoing.on('error', reject).end();
  });
}
