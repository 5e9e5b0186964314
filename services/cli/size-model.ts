/** Pure: how many shards and Envoys a cluster needs, and which load they put on each other and on the Kubernetes API. */

/** Measured figures of docs/benchmarks.md, by the name of their section there. */
const measured = {
  /** "Whole path": CPU of Envoy and of the shard for one GET, by the size of the object. */
  requests: [
    { bytes: 4 * 1024, envoyMs: 0.216, shardMs: 0.053 },
    { bytes: 112 * 1024, envoyMs: 0.276, shardMs: 0.089 },
    { bytes: 1024 ** 2, envoyMs: 0.772, shardMs: 0.437 },
    { bytes: 64 * 1024 ** 2, envoyMs: 50.526, shardMs: 26.184 },
  ],
  /** "Health checks". */
  envoyCheckMs: 0.081,
  shardCheckMs: 0.026,
  /** "eds": 0.4 GB for 7 responses to 500 streams with 1,000 shards. */
  edsBytesPerShard: 114,
  /** "eds": 1,000 shards and 500 streams. */
  eds: { shards: 1_000, envoys: 500, memoryBytes: 337 * 1024 ** 2 },
  /** docs/operate.md, "Run authz beside Envoy or as a Deployment". */
  reviewMs: 0.75,
  watchBytes: 6_000_000,
  /** "Shard": index of 20 million objects, rounded up. */
  indexBytesPerObject: 40,
} as const;

/** Values of the manifests, and of the settings of the services. */
const configured = {
  envoyWorkers: 4,
  /** The part of its worker threads at which the autoscaler keeps an Envoy. */
  hpaTarget: 0.6,
  envoyMemoryBytes: 2004 * 1024 ** 2,
  /** Grants in Lua. */
  workerMemoryBytes: 75 * 1024 ** 2,
  authzMemoryBytes: 512 * 1024 ** 2,
  authzMaxTokens: 100_000,
  edsMemoryBytes: 768 * 1024 ** 2,
  reviewAgeSeconds: 120,
  authzDeploymentReplicas: 3,
  /** A shard without its index: the process, and bodies in transfer. */
  shardBaseBytes: (201 + 512) * 1024 ** 2,
  maxObjectsOfShard: 134_000_000,
  checkJitter: 1.2,
  checkTimeoutSeconds: 1,
  failedChecks: 2,
} as const;

/** The part of Envoy's main thread, and of a shard's event loop, that health checks may take. */
const maxCheckShare = 0.05;
const checkIntervalsSeconds = [1, 2, 3, 5, 10, 15, 30];
/** Bursts, and the loss of one of three zones. */
const headroom = 1.5;
const minEnvoysPerZone = 2;
/** Above this product of Envoys and workload Pods, reviews take one core of the Kubernetes API. */
const maxEnvoysTimesPods = 150_000;
/** docs/operate.md, "Disruption". */
const rolloutStep = { seconds: 15, shards: 2, share: 0.05, shareFrom: 40 };

export interface SizeInput {
  /** Workload Pods with a token. */
  readonly clients: number;
  readonly shards: number;
  readonly diskBytes: number;
  readonly objectBytes: number;
  readonly bytesPerSecond: number;
  readonly zones: number;
  /** Worker threads of one Envoy (`--concurrency`). */
  readonly envoyThreads: number;
}

export interface Size {
  readonly requestsPerSecond: number;
  readonly shards: {
    readonly count: number;
    readonly capacityBytes: number;
    readonly objectsPerShard: number;
    readonly memoryBytes: number;
    readonly cores: number;
    readonly maxUnavailable: number;
    readonly rolloutSeconds: number;
  };
  readonly envoys: {
    readonly cores: number;
    readonly count: number;
    readonly minReplicas: number;
    readonly maxReplicas: number;
    readonly bytesPerSecond: number;
    readonly memoryBytes: number;
  };
  readonly healthChecks: {
    readonly intervalSeconds: number;
    readonly perSecond: number;
    readonly perSecondAtShard: number;
    readonly envoyShare: number;
    readonly shardShare: number;
    readonly noticedAfterSeconds: number;
  };
  readonly eds: { readonly bytesPerChange: number; readonly memoryBytes: number };
  readonly authz: {
    readonly form: 'beside Envoy' | 'authz-deployment';
    readonly reviewsPerSecond: number;
    readonly apiCores: number;
    readonly apiWatchBytes: number;
    readonly memoryBytes: number;
  };
  /** What these numbers break, each with what to do. */
  readonly warnings: readonly string[];
}

export function sizeOf(input: SizeInput): Size {
  const { clients, shards, diskBytes, objectBytes, bytesPerSecond } = input;
  const requestsPerSecond = bytesPerSecond / objectBytes;
  const cost = costOf(objectBytes);
  const cores = (requestsPerSecond * cost.shardMs) / 1000 / shards;
  const objectsPerShard = Math.floor(diskBytes / objectBytes);
  const atOnce = shards < rolloutStep.shareFrom ? rolloutStep.shards : Math.ceil(shards * rolloutStep.share);
  const envoys = envoysFor((requestsPerSecond * cost.envoyMs) / 1000, input);
  const size = {
    requestsPerSecond,
    shards: {
      count: shards,
      capacityBytes: shards * diskBytes,
      objectsPerShard,
      memoryBytes: configured.shardBaseBytes + objectsPerShard * measured.indexBytesPerObject,
      cores,
      maxUnavailable: atOnce,
      rolloutSeconds: Math.ceil(shards / atOnce) * rolloutStep.seconds,
    },
    envoys,
    healthChecks: checksOf(envoys.maxReplicas, shards),
    eds: {
      bytesPerChange: measured.edsBytesPerShard * shards * envoys.count,
      memoryBytes: measured.eds.memoryBytes * Math.max(1, shards / measured.eds.shards, envoys.maxReplicas / measured.eds.envoys),
    },
    authz: authzOf(envoys.count, clients),
  };
  return { ...size, warnings: warningsOf(size, input) };
}

function envoysFor(cores: number, { zones, envoyThreads, bytesPerSecond }: SizeInput): Size['envoys'] {
  const least = minEnvoysPerZone * zones;
  const count = Math.max(least, Math.ceil(cores / (envoyThreads * configured.hpaTarget)));
  return {
    cores,
    count,
    minReplicas: Math.max(least, Math.ceil(count / 2)),
    maxReplicas: Math.ceil(count * headroom),
    bytesPerSecond: bytesPerSecond / count,
    memoryBytes: configured.envoyMemoryBytes + envoyThreads * configured.workerMemoryBytes,
  };
}

/** The shortest interval with which checks cost little, when the autoscaler is at its maximum. */
function checksOf(envoys: number, shards: number): Size['healthChecks'] {
  const shareOf = (milliseconds: number, checked: number, seconds: number): number => (checked * milliseconds) / 1000 / seconds;
  const load = (seconds: number) => ({
    envoyShare: shareOf(measured.envoyCheckMs, shards, seconds),
    shardShare: shareOf(measured.shardCheckMs, envoys, seconds),
  });
  const fits = (seconds: number): boolean => Math.max(load(seconds).envoyShare, load(seconds).shardShare) <= maxCheckShare;
  const intervalSeconds = checkIntervalsSeconds.find(fits) ?? (checkIntervalsSeconds.at(-1) as number);
  return {
    intervalSeconds,
    perSecond: (envoys * shards) / intervalSeconds,
    perSecondAtShard: envoys / intervalSeconds,
    ...load(intervalSeconds),
    noticedAfterSeconds: configured.failedChecks * (intervalSeconds * configured.checkJitter + configured.checkTimeoutSeconds),
  };
}

/** At most: every client has met every Envoy. */
function authzOf(envoys: number, clients: number): Size['authz'] {
  const isBeside = envoys * clients <= maxEnvoysTimesPods;
  const authz = isBeside ? envoys : configured.authzDeploymentReplicas;
  const reviewsPerSecond = (authz * clients) / configured.reviewAgeSeconds;
  return {
    form: isBeside ? 'beside Envoy' : 'authz-deployment',
    reviewsPerSecond,
    apiCores: (reviewsPerSecond * measured.reviewMs) / 1000,
    apiWatchBytes: authz * measured.watchBytes,
    memoryBytes: configured.authzMemoryBytes,
  };
}

/** CPU of one GET. Between two measured sizes it is linear, above the largest it grows with the bytes. */
function costOf(bytes: number): { envoyMs: number; shardMs: number } {
  const points = measured.requests;
  const [smallest, largest] = [points[0], points[points.length - 1] as (typeof points)[number]];
  if (bytes <= smallest.bytes) return smallest;
  if (bytes >= largest.bytes) {
    const factor = bytes / largest.bytes;
    return { envoyMs: largest.envoyMs * factor, shardMs: largest.shardMs * factor };
  }
  const above = points.findIndex((point) => point.bytes > bytes);
  const [from, to] = [points[above - 1] as (typeof points)[number], points[above] as (typeof points)[number]];
  const part = (bytes - from.bytes) / (to.bytes - from.bytes);
  return {
    envoyMs: from.envoyMs + part * (to.envoyMs - from.envoyMs),
    shardMs: from.shardMs + part * (to.shardMs - from.shardMs),
  };
}

function warningsOf({ shards, envoys, eds }: Omit<Size, 'warnings'>, { clients, envoyThreads }: SizeInput): string[] {
  return [
    shards.cores > 1 && `a shard needs ${shards.cores.toFixed(1)} cores, but has one event loop: use more shards, or several shards a disk`,
    shards.objectsPerShard > configured.maxObjectsOfShard &&
      `a shard would hold ${shards.objectsPerShard} objects; it holds at most ${configured.maxObjectsOfShard}: use more, smaller shards`,
    clients > configured.authzMaxTokens &&
      `authz remembers ${configured.authzMaxTokens} tokens: set KURA_AUTHZ_CACHED_TOKENS above ${clients}`,
    envoyThreads !== configured.envoyWorkers &&
      `the base has ${configured.envoyWorkers} worker threads: set --concurrency, the memory limit and averageValue of the autoscaler too`,
    envoys.count > 100 && 'use larger Envoys (--envoy-threads 8), or direct transfers for large objects',
    eds.memoryBytes > configured.edsMemoryBytes && `eds needs more than its limit of ${configured.edsMemoryBytes / 1024 ** 2} MiB`,
  ].filter((warning) => warning !== false);
}
