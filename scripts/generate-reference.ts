/**
 * Writes docs/reference.md: every setting, metric and problem code, read from the code that defines them. `--check` writes nothing, and
 * fails if the committed page differs. Both fail for a setting, metric or problem code without a description.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Registry } from 'prom-client';
import { parse } from 'yaml';
import { settings as authzSettings } from '../services/authz/config.ts';
import { Metrics as AuthzMetrics } from '../services/authz/metrics.ts';
import { problems as authzProblems } from '../services/authz/problems.ts';
import { settings as cacheSettings } from '../services/cache/config.ts';
import { Counters } from '../services/cache/counters.ts';
import { problems as cacheProblems } from '../services/cache/http/problems.ts';
import { Catalog } from '../services/cache/index/catalog.ts';
import { Clock } from '../services/cache/index/clock.ts';
import { registerMetrics as registerCacheMetrics } from '../services/cache/metrics.ts';
import { BufferPool } from '../services/cache/store/buffer-pool.ts';
import { PageCacheWindow } from '../services/cache/store/page-cache-window.ts';
import { settings as consoleSettings } from '../services/console/config.ts';
import { problems as consoleProblems } from '../services/console/datasets/problems.ts';
import { createMetrics as createConsoleMetrics } from '../services/console/metrics.ts';
import { settings as edsSettings } from '../services/eds/config.ts';
import { createMetrics as createEdsMetrics, createPropagation } from '../services/eds/metrics.ts';
import type { Publisher } from '../services/eds/publisher.ts';
import type { StreamList } from '../services/eds/stream-list.ts';
import { settings as fakeSettings } from '../services/fake-kubernetes/config.ts';
import { settings as originSettings } from '../services/origin/config.ts';
import { Metrics as OriginMetrics } from '../services/origin/metrics.ts';
import type { OpenOrigins } from '../services/origin/open-origins.ts';
import { problems as originProblems } from '../services/origin/problems.ts';
import { type ProblemRow, ReferenceTables } from './reference-tables.ts';

const root = path.resolve(import.meta.dirname, '..');
const page = path.join(root, 'docs', 'reference.md');

interface AuthzProblem {
  readonly code: string;
  readonly status: number;
  readonly detail: unknown;
  readonly meaning?: string;
}

const tables = new ReferenceTables();
const text = await makePage();
if (tables.missing.length > 0) {
  console.error(`without a description: ${tables.missing.join(', ')}`);
  process.exitCode = 1;
} else if (!process.argv.includes('--check')) writeFileSync(page, text);
else if (readIfPresent() !== text) {
  console.error('docs/reference.md differs from the code: run `npm run generate`');
  process.exitCode = 1;
}

async function makePage(): Promise<string> {
  return `# Reference

<!-- Generated from the code by \`npm run generate\`. Do not edit. -->

## Settings

Each service reads its environment once, at start. An unknown name under its prefix, or a bad value, stops the process
with one line that names it. Sizes take the units of Kubernetes quantities (\`500M\`, \`64Gi\`). Durations take \`ms\`, \`s\`,
\`m\` or \`h\`.

### Shard

${tables.settings('KURA_CACHE_', cacheSettings)}

### authz

${tables.settings('KURA_AUTHZ_', authzSettings)}

### eds

${tables.settings('KURA_EDS_', edsSettings)}

### Origin service

${tables.settings('KURA_ORIGIN_', originSettings)}

### Console

${tables.settings('KURA_CONSOLE_', consoleSettings)}

### Fake Kubernetes API

It runs on the local system only.

${tables.settings('KURA_KUBERNETES_', fakeSettings)}

## Metrics

Each service serves them at \`/metrics\` of its metrics port.

### Shard

${await tables.metrics(cacheMetrics())}

### authz

${await tables.metrics(authzMetrics())}

### eds

${await tables.metrics(edsMetrics())}

### Origin service

${await tables.metrics(originMetrics())}

### Console

${await tables.metrics(consoleMetrics())}

## Problem codes

Every failure has a body of type \`application/problem+json\` (RFC 9457): \`{"status":…,"code":…,"detail":…}\`. Programs
compare the code; the detail is for people.

### Shard

${tables.problems(Object.entries(cacheProblems).map(([code, problem]) => ({ code, ...problem })))}

### authz

${tables.problems(authzProblemRows())}

### Origin service

${tables.problems(Object.entries(originProblems).map(([code, problem]) => ({ code, ...problem })))}

### Console

The detail of a problem of a shard is in the table of the shard.

${tables.problems(Object.entries(consoleProblems).map(([code, problem]) => ({ code, ...problem })))}

### Envoy

Envoy returns these itself (\`local_reply_config\` in envoy/bootstrap.yaml).

${tables.problems(envoyProblemRows())}
`;
}

function cacheMetrics(): Registry {
  const registry = new Registry();
  const catalog = new Catalog({
    limits: { maxBytes: 0, maxFiles: 1 },
    eviction: 'lru',
    clock: new Clock(),
    maxObjectShare: 1,
    evict: async () => true,
  });
  const stop = registerCacheMetrics(registry, {
    counters: new Counters(),
    catalog,
    openFiles: { size: 0 },
    buffers: new BufferPool({ maxBytes: 0 }),
    window: new PageCacheWindow({ maxBytes: 0, startTick: 0 }),
    connections: () => 0,
    recovered: () => 0,
    isServing: () => false,
    fills: { results: {}, rejected: 0, receivedBytes: 0, waiters: 0, bounds: { fills: 0, bytes: 0 } },
  });
  stop();
  return registry;
}

function authzMetrics(): Registry {
  const registry = new Registry();
  new AuthzMetrics(registry, {
    reviewsInFlight: () => 0,
    rememberedTokens: () => 0,
    isPodWatchHealthy: () => false,
    origins: { hash: undefined, isWatching: false },
    policy: { hash: undefined, accepted: 0, rejected: 0, isWatching: false },
  });
  return registry;
}

function edsMetrics(): Registry {
  const registry = new Registry();
  createPropagation(registry);
  const publisher = { shards: [], held: [], refused: [], refusals: 0, collapses: 0 } as unknown as Publisher;
  const streams = { size: 0, behind: 0 } as unknown as StreamList;
  createEdsMetrics({ registry, publisher, streams, lastContact: () => undefined });
  return registry;
}

function originMetrics(): Registry {
  const registry = new Registry();
  const origins = [] as unknown as OpenOrigins;
  new OriginMetrics(registry, { origins, document: { isWatching: false, accepted: 0, rejected: 0 } });
  return registry;
}

function consoleMetrics(): Registry {
  const registry = new Registry();
  createConsoleMetrics(registry, { answers: () => ({ answering: 0, silent: 0 }) });
  return registry;
}

function authzProblemRows(): ProblemRow[] {
  return Object.values(authzProblems).map(({ code, status, detail, meaning }: AuthzProblem) => {
    return { code, status, detail: meaning ?? (typeof detail === 'string' ? detail : '') };
  });
}

/** From the responses of Envoy itself. */
function envoyProblemRows(): ProblemRow[] {
  const found: ProblemRow[] = [];
  const walk = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return;
    const { json_format: format } = node as { json_format?: { status?: unknown; code?: unknown; detail?: unknown } };
    if (typeof format?.code === 'string' && typeof format.status === 'number') {
      found.push({ code: format.code, status: format.status, detail: String(format.detail ?? '') });
    }
    for (const child of Object.values(node)) walk(child);
  };
  walk(parse(readFileSync(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8'), { merge: true }));
  return found.filter(({ code, status }, at) => found.findIndex((other) => other.code === code && other.status === status) === at);
}

function readIfPresent(): string | undefined {
  try {
    return readFileSync(page, 'utf8');
  } catch {
    return undefined;
  }
}
