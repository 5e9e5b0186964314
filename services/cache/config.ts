/** The settings of a shard; the table in README.md is checked against this one. */
import { advertisedAddress, bytes, choice, duration, integer, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

export const settingPrefix = 'KURA_CACHE_';

export const settings = {
  listen: listenAddress('Where objects are served; shard i of several listens i ports higher.', '0.0.0.0:7000'),
  metricsListen: listenAddress('Where health and metrics are served; shard i of several listens i ports higher.', '0.0.0.0:7100'),
  directory: optional(text('The directory that holds the objects.')),
  shards: integer('Shards in this Pod, each a process of its own.', { min: 1, max: 64 }, '1'),
  directories: optional(text('The directories of several shards, separated by commas; without it shard i uses DIRECTORY/shard-i.')),
  podListen: listenAddress(
    'Where the parent of several shards answers /livez and /readyz: ready while one of them serves.',
    '0.0.0.0:7099',
  ),
  name: optional(
    text(
      "The shard's name, which is its hash_key in the assignment; kept in the directory, which then refuses another. With several shards the Pod's name: each adds /shard-i.",
    ),
  ),
  credentialFile: text(
    'File with the key that authz signs callers and terms with; during a rotation two keys, each on a line. With `off` the shard checks no signature, and accepts requests without these headers.',
  ),
  advertise: optional(
    advertisedAddress(
      'HOST or HOST:PORT by which clients reach this shard itself, its own port unless another is named (shard i of several i ports higher); without it /direct/ behaves as /objects/.',
    ),
  ),
  directMinBytes: bytes('Objects below this are answered on /direct/ as on /objects/.', { min: 0, max: 2 ** 50 }, '256Ki'),
  ticketLife: duration('How long after its making a ticket for a direct transfer lets one begin.', { min: 100, max: 60_000 }, '10s'),
  maxBytes: optional(
    bytes('Most bytes that objects, temporary files and folders take, in blocks of 4 KiB; without it 90 % of what the file system has.', {
      min: 16 * 1024 ** 2,
      max: 2 ** 50,
    }),
  ),
  maxObjects: optional(integer('Most files; without it 90 % of the inodes that the file system has.', { min: 64, max: 2 ** 27 })),
  maxObjectPercent: integer(
    'Largest object, in percent of the byte limit of the shard. A larger upload is 413.',
    { min: 1, max: 100 },
    '25',
  ),
  openFiles: integer('Most descriptors kept open between requests.', { min: 0, max: 1_000_000 }, '4096'),
  bufferBytes: bytes('Most memory that bodies on their way may take.', { min: 4 * 1024 ** 2, max: 2 ** 36 }, '512Mi'),
  readerTimeout: duration('A reader that takes nothing for so long is cut off.', { min: 100, max: 3_600_000 }, '120s'),
  writerTimeout: duration('An upload that brings nothing for so long is aborted.', { min: 100, max: 3_600_000 }, '30s'),
  keepAlive: duration("A connection idle for so long is closed; longer than Envoy's own 50 s.", { min: 100, max: 3_600_000 }, '120s'),
  drain: duration('How long requests are still accepted after SIGTERM, until routers have noticed.', { min: 0, max: 600_000 }, '10s'),
  grace: duration('How long requests in flight may take to end after that.', { min: 0, max: 3_600_000 }, '30s'),
  eviction: choice(
    'What goes when room is needed: the least recently used, or what the data sets in use can spare.',
    ['lru', 'dataset'],
    'lru',
  ),
  scrub: bytes('Bytes a second that the background check of stored objects may read; 0 turns it off.', { min: 0, max: 2 ** 40 }, '16Mi'),
  deviceShards: integer('Shards that share the file system; used where a limit is not given.', { min: 1, max: 1024 }, '1'),
  logLevel: logLevel(),
};
