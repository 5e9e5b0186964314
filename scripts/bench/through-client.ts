/**
 * One job of through.ts. It reads each name of a list once, in a random order, with several requests at a time, and prints the bytes that
 * it read and its failures as JSON. `through`: from kura, which fetches misses. `aside`: from kura, and on a miss from the origin, with an
 * upload. `direct`: from the origin.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Agent, request } from 'undici';

const concurrency = 16;
const { values } = parseArgs({
  options: {
    mode: { type: 'string' },
    kura: { type: 'string' },
    origin: { type: 'string' },
    names: { type: 'string' },
    token: { type: 'string' },
  },
});
const { mode, kura, origin, names, token } = values as Record<'mode' | 'kura' | 'origin' | 'names' | 'token', string>;
const dispatcher = new Agent({ connections: concurrency, headersTimeout: 60_000, bodyTimeout: 60_000 });
const headers = { authorization: `Bearer ${token}` };
const left = shuffled(readFileSync(names, 'utf8').trimEnd().split('\n'));
let [bytes, failures] = [0, 0];

await Promise.all(Array.from({ length: concurrency }, work));
console.log(JSON.stringify({ bytes, failures }));
process.exit(0);

async function work(): Promise<void> {
  for (let name = left.pop(); name !== undefined; name = left.pop()) {
    try {
      await read(name);
    } catch {
      failures += 1;
    }
  }
}

async function read(name: string): Promise<void> {
  if (mode === 'direct') return await drain(`${origin}/${name}`);
  if (mode === 'through') return await drain(`${kura.replace('/objects/', '/through/')}/${name}`);
  const cached = await request(`${kura}/${name}`, { dispatcher, headers });
  if (cached.statusCode === 200) return await count(cached.body);
  await cached.body.dump();
  const fetched = await request(`${origin}/${name}`, { dispatcher });
  const body = Buffer.from(await fetched.body.arrayBuffer());
  bytes += body.length;
  const stored = await request(`${kura}/${name}`, { dispatcher, headers, method: 'PUT', body });
  await stored.body.dump();
  if (fetched.statusCode !== 200 || stored.statusCode !== 201) failures += 1;
}

async function drain(url: string): Promise<void> {
  const { statusCode, body } = await request(url, { dispatcher, headers: mode === 'direct' ? {} : headers });
  if (statusCode !== 200) failures += 1;
  await count(body);
}

async function count(body: AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of body) bytes += chunk.length;
}

function shuffled(list: string[]): string[] {
  for (let at = list.length - 1; at > 0; at -= 1) {
    const other = Math.floor(Math.random() * (at + 1));
    [list[at], list[other]] = [list[other] as string, list[at] as string];
  }
  return list;
}
