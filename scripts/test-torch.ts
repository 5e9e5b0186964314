/**
 * `npm run test:torch [-- PYTEST_ARGUMENT …]`: runs the Python client with the real torch, torchdata, litData and Hugging Face datasets.
 * The first run fetches them into .tools: about 6 GB, because the wheel of torch for Linux requires CUDA.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { root, startLocalSystem } from '../test/e2e/support/system.ts';
import { installFromSource, virtualEnvironment } from '../test/support/python-packages.ts';

const client = path.join(root, 'clients', 'python');
const tests = path.join(client, 'tests', 'real');

const python = await virtualEnvironment('torch', path.join(tests, 'requirements.txt'));
const folder = await mkdtemp(path.join(tmpdir(), 'kura-torch-'));
let system: Awaited<ReturnType<typeof startLocalSystem>> | undefined;
try {
  const own = await installFromSource(client, folder);
  system = await startLocalSystem();
  const settings = ['-c', path.join(client, 'pyproject.toml'), '--rootdir', client, '--disable-warnings', '-v'];
  const pytest = spawn(python, ['-m', 'pytest', ...settings, tests, ...process.argv.slice(2)], {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      PYTHONPATH: own,
      PYTHONDONTWRITEBYTECODE: '1',
      KURA_TEST_LOCAL: path.join(system.stateDirectory, 'local.json'),
    },
    stdio: 'inherit',
  });
  const [status] = (await once(pytest, 'exit')) as [number | null];
  process.exitCode = status ?? 1;
} finally {
  await system?.stop();
  await rm(folder, { recursive: true, force: true });
}
