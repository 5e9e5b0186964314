#!/usr/bin/env node
/**
 * A kubectl for tests, whose cluster is the JSON file in FAKE_CLUSTER: `pods`, `forwards` (an address by `<pod>:<port>`) and `texts` (what
 * other commands print, by their beginning).
 */
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';

const { pods, forwards, texts } = JSON.parse(readFileSync(process.env.FAKE_CLUSTER, 'utf8'));
const words = process.argv.slice(2);
if (words.splice(0, 2).join(' ') !== '--namespace kura-system') fail('the namespace is not kura-system');
const command = words.join(' ');
if (words[0] === 'port-forward') forward(words.at(-2).replace('pod/', ''), words.at(-1).slice(1));
else if (command.startsWith('get pods -l ')) process.stdout.write(JSON.stringify({ items: pods }));
else {
  const known = Object.keys(texts).find((each) => command.startsWith(each));
  if (known === undefined) fail(`the server rejected: ${command}`);
  process.stdout.write(texts[known]);
}

function forward(pod, port) {
  const target = forwards[`${pod}:${port}`];
  if (target === undefined) fail(`unable to forward port ${port} of ${pod}`);
  const [host, number] = target.split(':');
  const server = createServer((client) => {
    const upstream = connect(Number(number), host);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ])
      socket.on('error', () => other.destroy()).pipe(other);
  });
  server.listen(0, '127.0.0.1', () => console.log(`Forwarding from 127.0.0.1:${server.address().port} -> ${port}`));
}

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}
