import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import test from 'ava';
import { startGrpcServer } from '../../services/shared/grpc.ts';
import { temporaryFolder } from '../support/service.ts';

const options = { register: () => undefined, graceMs: 1_000 };

test('a Unix socket is open to its group, and the close removes it', async (t) => {
  const socket = path.join(await temporaryFolder(t), 's.sock');
  const server = await startGrpcServer({ ...options, target: `unix:${socket}` });
  t.is(server.address, socket);
  t.is(statSync(socket).mode & 0o777, 0o660);
  await server.close();
  t.false(existsSync(socket));
});

test('the socket of a killed process is replaced', async (t) => {
  const socket = path.join(await temporaryFolder(t), 's.sock');
  const code = 'require("net").createServer().listen(process.argv[1], () => process.send("ready"))';
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, '-e', code, socket], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  await once(child, 'message');
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.true(existsSync(socket));
  const server = await startGrpcServer({ ...options, target: `unix:${socket}` });
  await server.close();
});

test('a socket that another process serves stays', async (t) => {
  const socket = path.join(await temporaryFolder(t), 's.sock');
  const other = createServer((connection) => connection.destroy()).listen(socket);
  await once(other, 'listening');
  t.teardown(() => other.close());
  await t.throwsAsync(startGrpcServer({ ...options, target: `unix:${socket}` }), { message: `another process listens on ${socket}` });
  t.true(existsSync(socket));
});

test('port 0 becomes the bound port, and a taken port is an error', async (t) => {
  const server = await startGrpcServer({ ...options, target: '127.0.0.1:0' });
  t.teardown(() => server.close());
  t.regex(server.address, /^127\.0\.0\.1:[1-9]\d+$/);
  await t.throwsAsync(startGrpcServer({ ...options, target: server.address }));
});
