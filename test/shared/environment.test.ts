import test from 'ava';
import {
  advertisedAddress,
  bytes,
  choice,
  duration,
  flag,
  integer,
  listenAddress,
  optional,
  readSettings,
  SettingsError,
  text,
} from '../../services/shared/environment.ts';

const table = {
  maxBytes: bytes('Limit.', { min: 1, max: 2 ** 50 }, '1Gi'),
  grace: duration('Grace.', { min: 0, max: 60_000 }, '10s'),
  shards: integer('Shards.', { min: 1, max: 64 }, '4'),
  listen: listenAddress('Where.', '[::1]:7000'),
  eviction: choice('Which.', ['lru', 'dataset'], 'lru'),
  strict: flag('Strict.', 'true'),
  directory: text('Directory.'),
  name: optional(text('Name.')),
  advertise: optional(advertisedAddress('Told to others.')),
};
const given = { KURA_CACHE_DIRECTORY: '/data' };

test('unset settings have their defaults, and an optional setting may be absent', (t) => {
  t.deepEqual(readSettings('KURA_CACHE_', table, given), {
    maxBytes: 2 ** 30,
    grace: 10_000,
    shards: 4,
    listen: { host: '::1', port: 7000 },
    eviction: 'lru',
    strict: true,
    directory: '/data',
    name: undefined,
    advertise: undefined,
  });
});

for (const [name, value, complaint] of [
  ['KURA_CACHE_MAX_BYTES', '12 GB', /^KURA_CACHE_MAX_BYTES="12 GB" is not a size/],
  ['KURA_CACHE_MAX_BYTES', '0', /is not between/],
  ['KURA_CACHE_GRACE', '10', /is not a duration/],
  ['KURA_CACHE_SHARDS', '-1', /is not a whole number/],
  ['KURA_CACHE_LISTEN', 'localhost', /is not an address/],
  ['KURA_CACHE_LISTEN', 'localhost:70000', /is not an address/],
  ['KURA_CACHE_EVICTION', 'fifo', /is invalid; it must be lru or dataset/],
  ['KURA_CACHE_STRICT', 'yes', /is invalid; it must be true or false/],
  ['KURA_CACHE_NAME', '', /is empty/],
  ['KURA_CACHE_MAX_BYTE', '1Gi', /^KURA_CACHE_MAX_BYTE is not a setting; known are KURA_CACHE_MAX_BYTES/],
] as const) {
  test(`${name}=${value} is refused in one line that names it`, (t) => {
    const error = t.throws(() => readSettings('KURA_CACHE_', table, { ...given, [name]: value }), {
      instanceOf: SettingsError,
      message: complaint,
    });
    t.false(error.message.includes('\n'));
  });
}

test('the error for a missing required setting contains its description', (t) => {
  t.throws(() => readSettings('KURA_CACHE_', table, {}), { message: 'KURA_CACHE_DIRECTORY must be set: Directory.' });
});

test('service links of Kubernetes and variables with other prefixes are ignored', (t) => {
  const links = [
    'SERVICE_HOST',
    'SERVICE_PORT',
    'SERVICE_PORT_SHARD_0',
    'PORT',
    'PORT_7000_TCP',
    'PORT_7000_TCP_ADDR',
    'HEADLESS_SERVICE_HOST',
  ];
  const environment = Object.fromEntries(links.map((link) => [`KURA_CACHE_${link}`, 'tcp://10.0.0.1:7000']));
  t.is(readSettings('KURA_CACHE_', table, { ...given, ...environment, KURA_ENVOY: '/envoy', KURA_PORT: '80' }).directory, '/data');
});

test('sizes have the units of Kubernetes quantities', (t) => {
  const read = (value: string) =>
    readSettings('K_', { size: bytes('Size.', { min: 0, max: Number.MAX_SAFE_INTEGER }) }, { K_SIZE: value }).size;
  t.deepEqual(['7', '2K', '2Ki', '3M', '3Mi', '4Gi', '1T', '1Ti'].map(read), [7, 2000, 2048, 3e6, 3 * 2 ** 20, 2 ** 32, 1e12, 2 ** 40]);
});

test('an advertised address is a host with or without a port', (t) => {
  const read = (value: string) => readSettings('K_', { advertise: advertisedAddress('Told.') }, { K_ADVERTISE: value }).advertise;
  for (const [value, host, port] of [
    ['10.0.0.1', '10.0.0.1', undefined],
    ['fd00::1', 'fd00::1', undefined],
    ['node-7.example', 'node-7.example', undefined],
    ['10.0.0.1:7000', '10.0.0.1', 7000],
    ['[fd00::1]:7000', 'fd00::1', 7000],
  ] as const)
    t.deepEqual(read(value), { host, port });
  for (const value of ['', 'fd00::1]:7000', 'http://10.0.0.1', '10.0.0.1:', '10.0.0.1:70000', 'a b'])
    t.throws(() => read(value), { message: /is not an address/ });
});
