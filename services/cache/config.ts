/** The settings of a shard. `npm run generate` writes them into docs/reference.md. */
import {
  advertisedAddress,
  bytes,
  choice,
  duration,
  flag,
  integer,
  listenAddress,
  logLevel,
  optional,
  serviceUrl,
  text,
} from '../shared/environment.ts';

export const settingPrefix = 'KURA_CACHE_';

export const settings = {
  listen: listenAddress('Address for objects. With several shards, shard i listens i ports higher.', '0.0.0.0:7000'),
  metricsListen: listenAddress('Address for health and metrics. With several shards, shard i listens i ports higher.', '0.0.0.0:7100'),
  directory: optional(text('Directory of the objects.')),
  shards: integer('Number of shards in this Pod. Each is a separate process.', { min: 1, max: 64 }, '1'),
  directories: optional(text('Directories of several shards, separated by commas. Default: DIRECTORY/shard-i for shard i.')),
  podListen: listenAddress(
    'Address for /livez and /readyz of the parent of several shards. The Pod is ready while at least one shard serves.',
    '0.0.0.0:7099',
  ),
  marker: optional(
    text(
      'Name of a file that each directory must contain. The shard does not start without it, so a disk that is not mounted never fills the disk below.',
    ),
  ),
  name: optional(
    text(
      'Name of the shard, equal to its hash_key in the assignment. The directory stores the name, and a shard with another name does not start on it. With several shards: name of the Pod, to which each shard adds /shard-i.',
    ),
  ),
  credentialFile: text(
    'File with the key that verifies the signatures of authz. During a rotation a second line has the other key. With `off` the shard checks no signature, and accepts requests without a caller.',
  ),
  advertise: optional(
    advertisedAddress(
      'HOST or HOST:PORT at which clients reach this shard directly. Default port: the port of the shard. Without this setting, /direct/ behaves as /objects/.',
    ),
  ),
  directMinBytes: bytes(
    'Smallest object that `/direct/` redirects. Smaller objects are served through Envoy, which needs less CPU than two requests.',
    { min: 0, max: 2 ** 50 },
    '1Mi',
  ),
  ticketLife: duration('Ticket lifetime. A direct transfer must start within this time.', { min: 100, max: 60_000 }, '10s'),
  sendfile: flag(
    'Whether direct transfers use sendfile(2), through the experimental `node:ffi` of Node. It needs Linux 6.5. Without it, they need more CPU and memory.',
    'true',
  ),
  readThread: flag(
    'Whether a thread reads small objects outside the page cache, through the experimental `node:ffi` of Node. Without it, they need more CPU.',
    'true',
  ),
  originUrl: serviceUrl(
    'URL of the origin service, such as `http://kura-origin:18100`. If it is empty, a miss under `/through/` stays a miss.',
    '',
  ),
  fills: integer(
    'Largest number of requests at the origin service at a time. Further misses under `/through/` get 503 `fill-busy`.',
    { min: 1, max: 10_000 },
    '256',
  ),
  fillBytes: bytes(
    'Limit for the length of all objects that are being fetched. A larger object is fetched alone.',
    { min: 0, max: 2 ** 50 },
    '64Gi',
  ),
  fillNamespacePercent: integer(
    'Part of `KURA_CACHE_FILLS` and `KURA_CACHE_FILL_BYTES` that one namespace may use.',
    { min: 1, max: 100 },
    '50',
  ),
  fillPrefetchPercent: integer(
    'Part of `KURA_CACHE_FILLS` and `KURA_CACHE_FILL_BYTES` that prefetch jobs may use.',
    { min: 1, max: 100 },
    '75',
  ),
  maxBytes: optional(
    bytes('Limit for objects, temporary files and folders, counted in blocks of 4 KiB. Default: 90 % of the file system.', {
      min: 16 * 1024 ** 2,
      max: 2 ** 50,
    }),
  ),
  maxObjects: optional(
    integer('Limit for the number of files. Default: 90 % of the inodes of the file system.', { min: 64, max: 2 ** 27 }),
  ),
  maxObjectPercent: integer(
    'Largest object, in percent of the byte limit of the shard. The shard rejects a larger upload with 413.',
    { min: 1, max: 100 },
    '25',
  ),
  openFiles: integer(
    'Limit for descriptors that stay open between requests. A shard keeps at most a quarter of the limit for open files of its process.',
    { min: 0, max: 1_000_000 },
    '16384',
  ),
  bufferBytes: bytes('Limit for the memory of bodies in transfer.', { min: 4 * 1024 ** 2, max: 2 ** 36 }, '512Mi'),
  readerTimeout: duration(
    'If a client reads no bytes of a response for this time, the shard closes the connection.',
    { min: 100, max: 3_600_000 },
    '120s',
  ),
  writerTimeout: duration(
    'If an upload sends less than 64 KiB in this time, the shard closes the connection.',
    { min: 100, max: 3_600_000 },
    '30s',
  ),
  keepAlive: duration(
    'The shard closes an idle connection after this time. It must be longer than the 50 s of Envoy.',
    { min: 100, max: 3_600_000 },
    '120s',
  ),
  drain: duration(
    'Time after SIGTERM in which the shard still accepts requests, so that every Envoy can notice the stop.',
    { min: 0, max: 600_000 },
    '10s',
  ),
  grace: duration('Time after the drain for requests in progress to end.', { min: 0, max: 3_600_000 }, '30s'),
  eviction: choice(
    'Object to evict when room is needed. `lru`: the least recently used. `dataset`: first from data sets without readers, then an object idle for longer than the guard time of its data set.',
    ['lru', 'dataset'],
    'lru',
  ),
  scrub: bytes('Bytes per second that the background check of stored objects reads. 0 disables it.', { min: 0, max: 2 ** 40 }, '16Mi'),
  deviceShards: integer('Number of shards that share the file system. It divides the default limits.', { min: 1, max: 1024 }, '1'),
  requestLog: flag(
    'Whether the shard logs each request of a sampled trace (`traceparent`), at most 200 a second, with the ids that Envoy gave it.',
    'false',
  ),
  logLevel: logLevel(),
};
