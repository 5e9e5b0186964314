/**
 * 16 clients in one process for direct.ts. Each follows a redirect, reads the whole body and keeps its connections. Prints the number of
 * responses, the failures, and the CPU microseconds of this process, as JSON.
 */
import { Agent, get, type IncomingMessage } from 'node:http';
import { parseArgs } from 'node:util';

const clients = 16;
const { values } = parseArgs({ options: { url: { type: 'string' }, tokens: { type: 'string' }, seconds: { type: 'string' } } });
const { url, tokens, seconds } = values as { url: string; tokens: string; seconds: string };
const words = tokens.split(',');
const agent = new Agent({ keepAlive: true, maxSockets: 2 * clients });
let [responses, failures] = [0, 0];

const before = process.cpuUsage();
const endMs = performance.now() + Number(seconds) * 1000;
await Promise.all(Array.from({ length: clients }, (_, at) => read(at)));
const { user, system } = process.cpuUsage(before);
console.log(JSON.stringify({ responses, failures, micros: user + system }));
process.exit(0);

async function read(first: number): Promise<void> {
  while (performance.now() < endMs) {
    let answer = await ask(url, { authorization: `Bearer ${words[first % words.length]}` });
    const { location } = answer.headers;
    if (answer.statusCode === 307 && location !== undefined) {
      await finish(answer);
      answer = await ask(location, {});
    }
    const isRight = (await finish(answer)) === Number(answer.headers['content-length']) && answer.statusCode === 200;
    responses += 1;
    if (!isRight) failures += 1;
  }
}

function ask(target: string, headers: Record<string, string>): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => get(target, { agent, headers }, resolve).on('error', reject));
}

/** Returns the bytes of the body. */
async function finish(answer: IncomingMessage): Promise<number> {
  let bytes = 0;
  answer.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await new Promise<void>((resolve, reject) => answer.once('end', resolve).once('error', reject));
  return bytes;
}
