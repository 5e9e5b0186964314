/**
 * Checks envoy/bootstrap.yaml with the real Envoy (`--mode validate`), and checks the properties that kura relies on. Each breach is one
 * line with the consequence. envoy/README.md explains the blocks. An argument selects another file.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { settings as authzSettings } from '../../services/authz/config.ts';
import { settings as edsSettings } from '../../services/eds/config.ts';
import { envoyBinary } from '../../services/local/envoy-binary.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const file = process.argv[2] ?? path.join(root, 'envoy', 'bootstrap.yaml');
/** Clients have a socket timeout of 3 s. Half a second is left for the network. */
const maxFailureSeconds = 2.5;
/** The keep-alive timeout of the shard. */
const shardKeepAliveSeconds = 120;
/** The paths in a Pod (k8s/base/envoy.yaml). */
const grantsFile = '/etc/envoy/grants.lua';
const credentialFile = '/etc/envoy/credential.yaml';

// biome-ignore lint/suspicious/noExplicitAny: the YAML may have any shape; a missing value is undefined and becomes a breach.
type Yaml = any;

const text = readFileSync(file, 'utf8');
const bootstrap: Yaml = parse(text);
const breaches: string[] = [];
const require = (holds: boolean, breach: string): void => {
  if (!holds) breaches.push(breach);
};
const named = (list: Yaml[], name: string): Yaml => list?.find((item) => item.name === name);
const seconds = (value: unknown): number => Number(/^([\d.]+)s$/.exec(String(value))?.[1]);

const { listeners, clusters } = bootstrap.static_resources;
const manager: Yaml = named(listeners, 'objects')?.filter_chains[0].filters[0].typed_config;
const authorization: Yaml = named(manager?.http_filters, 'envoy.filters.http.ext_authz')?.typed_config;
const routes: Yaml[] = manager?.route_config.virtual_hosts[0].routes ?? [];
const cache: Yaml = named(clusters, 'kura-cache');
const [read, write, readDirect, writeDirect] = ['read', 'write', 'read-direct', 'write-direct'].map((name) => named(routes, name)?.route);
const byPath = { header: { header_name: ':path' } };
const byDirectPath = { header: { ...byPath.header, regex_rewrite: { pattern: { regex: '^/direct/' }, substitution: '/objects/' } } };

// Keys are compared byte for byte by authz, the hash and the shard.
require(manager?.normalize_path === true, 'normalize_path is off: dot segments would reach authz and shards');
require(manager?.merge_slashes === false, 'merge_slashes is on: keys with // would become others');
require(manager?.path_with_escaped_slashes_action ===
  'REJECT_REQUEST', 'escaped slashes are not rejected: one key would have two spellings');
for (const prefix of ['x-kura-', 'x-envoy-']) {
  const mutations: Yaml[] = named(manager?.early_header_mutation_extensions, 'strip')?.typed_config.mutations ?? [];
  const strips = mutations.some(
    ({ remove_on_match: match }) => match?.key_matcher.prefix === prefix && match.key_matcher.ignore_case === true,
  );
  require(strips, `${prefix}* headers of clients are not stripped: they could name another namespace`);
}

// Every request is authorized.
require(authorization?.failure_mode_allow === false, 'ext_authz has failure_mode_allow: without authz everything would be let in');
const order = manager?.http_filters.map(({ name }: { name: string }) => name.replace('envoy.filters.http.', '')).join(' ');
require(order ===
  'local_ratelimit lua ext_authz credential_injector router', `the filters stand in the order "${order}": a request could pass unchecked, or without the credential`);
const injector: Yaml = named(manager?.http_filters, 'envoy.filters.http.credential_injector')?.typed_config;
const generic: Yaml = injector?.credential.typed_config;
require(injector?.overwrite === true &&
  injector.allow_request_without_credential !== true &&
  generic?.header === 'x-kura-credential' &&
  generic.credential.sds_config.path_config_source.path === credentialFile, `shards do not get the credential of ${credentialFile}`);
const grants: Yaml = named(manager?.http_filters, 'envoy.filters.http.lua');
require(grants?.typed_config.default_source_code.filename ===
  grantsFile, `grants.lua (${grantsFile}) is not there: every request would ask authz`);
require(JSON.stringify(authorization?.filter_enabled_metadata) ===
  '{"filter":"kura.grant","path":[{"key":"hit"}],"value":{"present_match":true},"invert":true}', 'ext_authz is not skipped just where grants.lua says so');

// Access log and admin interface.
const logs: Yaml[] = manager?.access_log ?? [];
require(!/authorization/i.test(JSON.stringify(logs)), 'the access log would hold tokens');
const transfers = named(logs, 'envoy.access_loggers.http_grpc');
require(JSON.stringify(transfers?.filter) ===
  '{"metadata_filter":{"matcher":{"filter":"envoy.filters.http.ext_authz","path":[{"key":"counts_bytes"}],"value":{"bool_match":true}},"match_if_key_not_found":false}}' &&
  transfers.typed_config.common_config.grpc_service.envoy_grpc.cluster_name === 'authz' &&
  transfers.typed_config.additional_request_headers_to_log.includes(
    'x-kura-namespace',
  ), 'authz is not told of transfers: bytesPerSecond would limit nobody');
const adminPaths: Yaml[] = bootstrap.admin.allow_paths ?? [];
const isAllowed = (name: string): boolean =>
  adminPaths.some(({ exact, prefix }) => exact === name || (prefix !== undefined && name.startsWith(prefix)));
require(adminPaths.length > 0 &&
  !['/quitquitquit', '/runtime_modify', '/cpuprofiler'].some(isAllowed) &&
  ['/ready', '/stats/prometheus', '/healthcheck/fail', '/drain_listeners'].every(
    isAllowed,
  ), 'allow_paths of the admin interface lets the process be stopped or changed, or keeps probes, metrics or the drain out');
require(bootstrap.admin.address.socket_address.address === '127.0.0.1', 'the admin interface is not on loopback: anybody could stop Envoy');

// A failure reaches the client in time, and an active transfer is not interrupted.
for (const [name, route] of Object.entries({ read, write, 'read-direct': readDirect, 'write-direct': writeDirect })) {
  require(route?.timeout === '0s', `route ${name} has a timeout: long transfers would be cut`);
  const hash = name.endsWith('-direct') ? byDirectPath : byPath;
  require(JSON.stringify(route?.hash_policy) ===
    JSON.stringify([
      hash,
    ]), `route ${name} does not hash by the path alone${hash === byPath ? '' : ', as under /objects/'}: keys would move`);
  const tries = route?.retry_policy?.retry_on === undefined ? 1 : 1 + route.retry_policy.num_retries;
  const maxSeconds = seconds(authorization?.grpc_service.timeout) + tries * seconds(route?.retry_policy?.per_try_timeout);
  require(maxSeconds <=
    maxFailureSeconds, `authz's timeout and the tries of route ${name} take ${maxSeconds} s together: clients give up before`);
}
for (const route of ['write', 'write-direct'])
  require(named(routes, route)?.route.retry_policy?.retry_on === undefined, `route ${route} has retry_on: Envoy would buffer every body`);
for (const route of ['read', 'read-direct'])
  require(JSON.stringify(named(routes, route)?.match.headers) ===
    '[{"name":":method","string_match":{"safe_regex":{"regex":"GET|HEAD"}}}]', `route ${route} takes more than GET and HEAD: others must not be retried`);
require(manager?.delayed_close_timeout ===
  '0s', 'delayed_close_timeout is not 0s: a client that pauses would lose the end of an answer that ends its connection');
require(seconds(cache?.connect_timeout) <
  seconds(read?.retry_policy?.per_try_timeout), 'connect_timeout of kura-cache is not below per_try_timeout: no time for the next shard');
const idle =
  cache?.typed_extension_protocol_options['envoy.extensions.upstreams.http.v3.HttpProtocolOptions'].common_http_protocol_options
    .idle_timeout;
require(seconds(idle) <
  shardKeepAliveSeconds, "idle_timeout of kura-cache is not below the shard's keep-alive time: requests would meet closing connections");

// Keys stay on their shards.
const policy = cache?.load_balancing_policy.policies[0].typed_extension_config.typed_config['@type'];
require(String(policy).endsWith('.maglev.v3.Maglev'), 'kura-cache is not balanced by Maglev: keys would move when shards come and go');
require(cache?.common_lb_config.healthy_panic_threshold.value === 0, 'panic mode is on: keys would be spread over dead shards');
require(cache?.ignore_health_on_host_removal === true, 'a removed shard would stay while its health check passes');
require(cache?.outlier_detection.enforcing_consecutive_5xx === 0, "outlier detection counts 5xx: a shard's honest 507 would eject it");

// Names and ports agree with the code.
const port = (address: Yaml): number => address?.socket_address.port_value;
require(cache?.eds_cluster_config.service_name ===
  edsSettings.service.fallback, 'service_name of kura-cache is not the one that eds serves');
require(seconds(cache?.eds_cluster_config.eds_config.initial_fetch_timeout) ===
  0, 'initial_fetch_timeout is not 0s: Envoy would go live without shards');
require(port(bootstrap.admin.address) === 9901, "the admin port is not 9901, which the metrics listener's cluster names");
require(port(named(listeners, 'objects')?.address) === 8080 &&
  port(named(listeners, 'metrics')?.address) === 9902, 'a listener is not on its port (8080, 9902)');
const endpoint = (name: string): Yaml => named(clusters, name)?.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address;
require(`unix:${endpoint('authz')?.pipe?.path}` === authzSettings.listen.fallback, "the cluster authz is not at authz's socket");
require(String(edsSettings.listen.fallback).endsWith(`:${port(endpoint('eds'))}`), "the cluster eds is not at eds' port");

const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
const identity = ['--service-node', 'check', '--service-cluster', 'check', '--service-zone', 'check'];
const here = text.replaceAll('/etc/envoy/', `${path.join(root, 'envoy')}/`);
const words = ['--mode', 'validate', '--config-yaml', here, '--log-level', 'error', ...identity];
const validation = spawnSync(binary, words, { encoding: 'utf8' });
require(validation.status === 0, `Envoy refuses it: ${validation.error?.message ?? validation.stderr.trim()}`);

for (const breach of breaches) console.error(`${path.relative(root, file)}: ${breach}`);
process.exitCode = breaches.length > 0 ? 1 : 0;
