/**
 * Checks the import rules of CONTRIBUTING.md. A service imports only itself, `shared` and the protos, and its rooms import in one
 * direction. Pure files import no I/O, clock, randomness or logger. Only a `main.ts` reads `process.env`. HTTP and gRPC status codes stay
 * at the edge. No file is named `utils`. Prints each breach.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..', '..');
const services = path.join(root, 'services');

/** Folders that the files of a service may import, besides packages. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  shared: ['services/shared', 'proto'],
  cache: ['services/cache', 'services/shared', 'proto'],
  authz: ['services/authz', 'services/shared', 'proto'],
  eds: ['services/eds', 'services/shared', 'proto'],
  'envoy-bootstrap': ['services/envoy-bootstrap'],
  origin: ['services/origin', 'services/shared'],
  console: ['services/console', 'services/shared'],
  'envoy-drain': ['services/envoy-drain', 'services/shared'],
  'fake-kubernetes': ['services/fake-kubernetes', 'services/shared'],
  local: ['services', 'proto'],
  cli: ['services', 'proto'],
};
/**
 * The rooms of a service, and the other rooms that each may import. Files in the folder of the service may import every room; every room
 * may import the `open` files.
 */
const rooms: Readonly<Record<string, { readonly below: Readonly<Record<string, readonly string[]>>; readonly open: readonly string[] }>> = {
  cache: {
    below: {
      http: ['datasets', 'fill', 'store', 'index', 'disk'],
      datasets: ['store', 'index', 'disk'],
      fill: ['store', 'index', 'disk'],
      upkeep: ['store', 'index', 'disk'],
      store: ['index', 'disk'],
      metrics: ['index'],
      index: [],
      disk: [],
    },
    open: ['counters.ts', 'digest.ts'],
  },
  authz: {
    below: { 'rate-limit': ['policy', 'identity'], policy: ['identity'], identity: [] },
    open: [],
  },
  console: { below: { page: ['readings', 'datasets'], datasets: [], readings: [] }, open: [] },
  origin: {
    below: { prefetch: ['sources'], sources: [] },
    open: ['admission.ts', 'concurrency-limit.ts', 'fetch.ts', 'list.ts', 'metrics.ts', 'open-origins.ts', 'problems.ts'],
  },
  cli: {
    below: {
      'kubectl-kura': ['commands', 'client', 'output'],
      commands: ['transfer', 'client', 'output'],
      transfer: ['client', 'output'],
      client: [],
      output: [],
    },
    open: ['usage-error.ts', 'size-model.ts'],
  },
};
const impurePackage = /^(node:(?!assert|util$|buffer$|path$)|pino|prom-client|undici|@grpc\/|@kubernetes\/)/;
const impureGlobal = /\b(Date\.now|new Date\(\)|Math\.random|performance\.now|setTimeout|setInterval|fetch\(|process\.)/;
/** These files must be pure. Other files are pure when their first comment begins with `Pure:`. */
const mustBePure = [
  'services/authz/policy/grant.ts',
  'services/authz/policy/policy.ts',
  'services/cache/index/eviction.ts',
  'services/cache/index/object-index.ts',
  'services/eds/assignment.ts',
  'services/eds/subscription.ts',
  'services/local/bootstrap.ts',
  'services/shared/key.ts',
];
const grpcEdge = /\/(check|stream|grpc)\.ts$/;
const httpEdge = /\/(http|check|problems|metrics|main)\.ts$|^services\/(fake-kubernetes|cache\/http|origin\/sources)\//;
const httpStatus = /\b(?:status:|statusCode =|writeHead\() ?[1-5]\d{2}\b/;

const breaches: string[] = [];
const sources = listSources(services);
const names = new Set(sources.map((file) => path.relative(root, file)));
for (const name of mustBePure) if (!names.has(name)) breaches.push(`${name}: must be pure, but does not exist`);
for (const file of sources) {
  const name = path.relative(root, file);
  const text = readFileSync(file, 'utf8');
  const source = text.replace(/\/\*.*?\*\/|^\s*\/\/.*$/gms, '');
  const service = path.relative(services, file).split(path.sep)[0] as string;
  const isPure = /^\/\*\*\s+(?:\* )?Pure[:.]/.test(text) || mustBePure.includes(name);
  if (path.basename(file).startsWith('utils')) breaches.push(`${name}: must not be named utils`);
  if (mayImport[service] === undefined) breaches.push(`${name}: services/${service} is not a known service`);
  if (path.basename(file) !== 'main.ts' && /process\.env/.test(source)) breaches.push(`${name}: only main.ts reads process.env`);
  if (isPure && impureGlobal.test(source)) breaches.push(`${name}: is pure but uses ${impureGlobal.exec(source)?.[0]}`);
  if (!httpEdge.test(name) && httpStatus.test(source)) breaches.push(`${name}: HTTP status codes are allowed only at the edge`);
  for (const [statement, specifier] of imports(source)) {
    const target = specifier.startsWith('.') ? path.relative(root, path.resolve(path.dirname(file), specifier)) : undefined;
    if (target !== undefined && !(mayImport[service] ?? []).some((folder) => target.startsWith(`${folder}/`))) {
      breaches.push(`${name}: must not import ${target}`);
    }
    if (target !== undefined && !isDownward(name, target))
      breaches.push(`${name}: must not import ${target}, which is in a room beside or above its own`);
    if (isPure && !statement.startsWith('import type') && impurePackage.test(specifier))
      breaches.push(`${name}: is pure but imports ${specifier}`);
    if (specifier === '@grpc/grpc-js' && /\bstatus\b/.test(statement) && !grpcEdge.test(name)) {
      breaches.push(`${name}: gRPC status codes belong in check.ts, stream.ts or grpc.ts`);
    }
  }
}
for (const breach of breaches) console.error(breach);
process.exitCode = breaches.length > 0 ? 1 : 0;

function listSources(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.join(dir, name));
}

/** Whether an import inside one service stays in its room or leads to a lower one. */
function isDownward(name: string, target: string): boolean {
  const [, service = '', room = ''] = name.split('/');
  const plan = rooms[service];
  const below = plan?.below[room];
  if (plan === undefined || below === undefined || !target.startsWith(`services/${service}/`)) return true;
  const place = target.split('/')[2] as string;
  return place === room || below.includes(place) || plan.open.includes(place);
}

/** All imports, dynamic imports and re-exports, with their specifiers. */
function imports(source: string): [statement: string, specifier: string][] {
  const forms = [
    /^(?:import|export)\b[^;'"]*?\bfrom\s+['"]([^'"]+)['"]/gms,
    /^import\s+['"]([^'"]+)['"]/gm,
    /\bimport\(\s*['"`]([^'"`]+)['"`]/g,
  ];
  return forms.flatMap((form) => [...source.matchAll(form)].map((match): [string, string] => [match[0], match[1] as string]));
}
