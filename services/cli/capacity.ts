import { request } from 'undici';

const answerLimitMs = 2_000;

/** The bytes that all shards together may hold, as their metrics say; undefined unless every one of them does. */
export async function availableBytes(shardMetricsUrls: readonly string[]): Promise<number | undefined> {
  const limits = await Promise.all(shardMetricsUrls.map((url) => limitOf(url).catch(() => undefined)));
  if (limits.length === 0) return undefined;
  return limits.reduce((sum: number | undefined, limit) => (sum === undefined || limit === undefined ? undefined : sum + limit), 0);
}

async function limitOf(url: string): Promise<number | undefined> {
  const { body } = await request(url, { signal: AbortSignal.timeout(answerLimitMs) });
  const line = /^kura_cache_limit_bytes(?:\{[^}]*\})? (\S+)$/m.exec(await body.text());
  return line === null ? undefined : Number(line[1]);
}
