/** Fills an index with 20 million objects, for shard.ts. Prints the bytes per object, of the arrays and resident, and the longest pause. */
import { ObjectIndex } from '../../services/cache/index/object-index.ts';

const objects = 20_000_000;
const before = process.memoryUsage.rss();
const index = new ObjectIndex({ capacity: objects });
let worstMs = 0;
let lookedAt = performance.now();
for (let at = 0; at < objects; at += 1) {
  index.insert({ a: Math.imul(at, 2654435761) >>> 0, b: at, c: at, blocks: 28, tick: at >>> 8, group: at & 1023 });
  if ((at & 127) !== 0) continue;
  const now = performance.now();
  worstMs = Math.max(worstMs, now - lookedAt);
  lookedAt = now;
}
console.log(JSON.stringify({ bytes: index.bytesPerObject, resident: (process.memoryUsage.rss() - before) / objects, worstMs }));
