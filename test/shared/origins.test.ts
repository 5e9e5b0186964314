/** The document `kind: Origins`: what is accepted, and the line and column of each problem. */
import test from 'ava';
import { compileOrigins } from '../../services/shared/origins.ts';

const head = 'apiVersion: kura/v1\nkind: Origins\norigins:\n';

function problemsOf(entries: string): string[] {
  const compiled = compileOrigins(head + entries);
  return compiled.kind === 'rejected' ? compiled.problems.map(({ line, message }) => `${line}: ${message}`) : [];
}

test('a document with each kind of origin is read with its defaults', (t) => {
  const compiled = compileOrigins(`${head}
- name: imagenet
  prefix: _shared/imagenet/
  s3: { bucket: imagenet, region: eu-central-1, endpoint: "https://s3.example", prefix: v1/, pathStyle: true }
  maxObjectBytes: 8Gi
  share: 0.25
  maxConcurrency: 8
  timeout: 5s
  revalidate: 24h
- name: web
  prefix: _shared/web/
  http: { url: "https://data.example/files/" }
  allowedHosts: ["[::1]", CDN.example]
  revalidate: never
- { name: nfs, prefix: vision/, file: { path: /mnt/nfs } }
`);
  t.deepEqual(compiled.kind === 'document' ? compiled.value : compiled.problems, [
    {
      name: 'imagenet',
      prefix: '_shared/imagenet/',
      source: { kind: 's3', endpoint: 'https://s3.example', region: 'eu-central-1', bucket: 'imagenet', prefix: 'v1/', pathStyle: true },
      maxObjectBytes: 8 * 2 ** 30,
      share: 0.25,
      maxConcurrency: 8,
      timeoutMs: 5_000,
      allowedHosts: [],
      revalidateMs: 86_400_000,
    },
    {
      name: 'web',
      prefix: '_shared/web/',
      source: { kind: 'http', url: 'https://data.example/files/' },
      maxObjectBytes: 64 * 2 ** 30,
      share: undefined,
      maxConcurrency: 64,
      timeoutMs: 10_000,
      allowedHosts: ['::1', 'cdn.example'],
      revalidateMs: undefined,
    },
    {
      name: 'nfs',
      prefix: 'vision/',
      source: { kind: 'file', path: '/mnt/nfs' },
      maxObjectBytes: 64 * 2 ** 30,
      share: undefined,
      maxConcurrency: 64,
      timeoutMs: 10_000,
      allowedHosts: [],
      revalidateMs: undefined,
    },
  ]);
});

test('a prefix may have dots beside other characters', (t) => {
  for (const prefix of ['a/.b/', '..a/', 'a.../', '.../'])
    t.deepEqual(problemsOf(`- { name: a, prefix: ${prefix}, file: { path: /mnt } }\n`), [], prefix);
});

test('each problem names its line', (t) => {
  const file = 'file: { path: /mnt }';
  const cases: readonly (readonly [string, RegExp])[] = [
    [`- { name: A, prefix: a/, ${file} }`, /4: name: "A" is not a name of 1 to 63 lower-case letters/],
    [`- { name: a, ${file} }`, /4: an origin lacks the field "prefix"/],
    [`- { name: a, prefix: a, ${file} }`, /4: origin a: prefix: "a" must end with a slash/],
    [`- { name: a, prefix: /a/, ${file} }`, /must not begin with \//],
    [`- { name: a, prefix: a%61/, ${file} }`, /"a%61\/" is not canonical; write "aa\/"/],
    [`- { name: a, prefix: a/../b/, ${file} }`, /4: origin a: prefix: "a\/..\/b\/" covers no key: it has a \. or \.\. segment/],
    [`- { name: a, prefix: ./, ${file} }`, /"\.\/" covers no key: it has a \. or \.\. segment/],
    [`- { name: a, prefix: a%zz/, ${file} }`, /"a%zz\/" covers no key: it has a malformed escape/],
    ['- { name: a, prefix: a/ }', /4: origin a must have one of s3, http and file; it has none/],
    [`- { name: a, prefix: a/, ${file}, http: { url: "http://x/" } }`, /it has http and file/],
    ['- { name: a, prefix: a/, http: { url: "http://x/y" } }', /url "http:\/\/x\/y" must end with a slash/],
    ['- { name: a, prefix: a/, http: { url: "ftp://x/" } }', /is not a URL that begins with http/],
    ['- { name: a, prefix: a/, http: { url: "http://u:p@x/" } }', /must not hold a user name or a password/],
    ['- { name: a, prefix: a/, http: { url: "http://x/?a/" } }', /must not have a query or a fragment/],
    ['- { name: a, prefix: a/, s3: { bucket: b } }', /lacks the field "region"/],
    ['- { name: a, prefix: a/, s3: { bucket: bbb, region: r, pathStyle: 1 } }', /pathStyle is not true or false/],
    [`- { name: a, prefix: a/, ${file}, timeout: 2m }`, /timeout is not a duration/],
    [`- { name: a, prefix: a/, ${file}, share: 2 }`, /share is not a number/],
    [`- { name: a, prefix: a/, ${file}, revalidate: often }`, /revalidate, if it is not never, is not a duration/],
    [`- { name: a, prefix: a/, ${file}, cache: 1 }`, /an origin has no field "cache"/],
    [`- { name: a, prefix: a/, ${file} }\n- { name: a, prefix: b/, ${file} }`, /5: two origins are named "a"/],
    [`- { name: a, prefix: a/, ${file} }\n- { name: b, prefix: a/b/, ${file} }`, /5: the prefixes of origins a and b overlap/],
  ];
  for (const [entries, problem] of cases)
    t.true(
      problemsOf(`${entries}\n`).some((found) => problem.test(found)),
      `${entries}\n${problemsOf(entries)}`,
    );
});
