/** Pure: the settings of the Envoy bootstrap that kura depends on. envoy/README.md explains the blocks. */
import { settings as authzSettings } from '../../services/authz/config.ts';
import { settings as cacheSettings } from '../../services/cache/config.ts';
import { settings as edsSettings } from '../../services/eds/config.ts';
import { Condition, type Row, seconds, valueAt } from './expectation.ts';

/** A client limits a socket operation to 3 s; half a second remains for the network. */
const maxFailure = '2.5s';
/** Under /through/ a miss gets its first byte within 30 s. The check by authz comes before. */
const maxThroughFailure = '61s';
/** The paths of these files in a Pod (k8s/base/envoy.yaml). */
const grantsFile = '/etc/envoy/grants.lua';
const grpcFile = '/etc/envoy/grpc.lua';

const objects = 'static_resources.listeners[objects]';
const manager = `${objects}.filter_chains[0].filters[0].typed_config`;
const mutations = `${manager}.early_header_mutation_extensions[strip].typed_config.mutations`;
const authzMatcher = `${manager}.http_filters[kura.authz].typed_config.xds_matcher`;
const grants = `${manager}.http_filters[kura.grants].typed_config`;
const authorization = `${authzMatcher}.on_no_match.action.typed_config.typed_config.typed_config`;
const grpc = `${manager}.http_filters[kura.grpc].typed_config.xds_matcher.matcher_list.matchers[0]`;
const grpcChain = `${grpc}.on_match.action.typed_config.filter_chain.typed_config`;
const lines = `${manager}.access_log[envoy.access_loggers.stdout]`;
const transfers = `${manager}.access_log[envoy.access_loggers.http_grpc]`;
const routes = `${manager}.route_config.virtual_hosts[0].routes`;
const cache = 'static_resources.clusters[kura-cache]';
const cacheHttp = `${cache}.typed_extension_protocol_options[envoy.extensions.upstreams.http.v3.HttpProtocolOptions]`;
const firstEndpoint = 'load_assignment.endpoints[0].lb_endpoints[0].endpoint.address';

const byPath = { header_name: ':path' };
const byObjectsPath = { ...byPath, regex_rewrite: { pattern: { regex: '^/(direct|through)/' }, substitution: '/objects/' } };

/** The spelling of a key: authz, the hash and the shard compare keys byte for byte. */
const keyRows: readonly Row[] = [
  [`${manager}.normalize_path`, true, 'dot segments would reach authz and the shards'],
  [`${manager}.merge_slashes`, false, 'a key with // would become another key'],
  [`${manager}.path_with_escaped_slashes_action`, 'REJECT_REQUEST', 'one key would have two spellings'],
  ...['x-kura-', 'x-envoy-'].map((prefix): Row => {
    const strip = { remove_on_match: { key_matcher: { prefix, ignore_case: true } } };
    return [mutations, new Condition('listWith', strip), `a client could send ${prefix}* headers to shards`];
  }),
];

/** A request with a gRPC content type gets the refusals of other requests. */
const grpcRows: readonly Row[] = [
  [
    `${grpc}.predicate.single_predicate.input.typed_config`,
    { '@type': 'type.googleapis.com/envoy.type.matcher.v3.HttpResponseHeaderMatchInput', header_name: 'grpc-status' },
    'a refused request with a gRPC content type would get 200',
  ],
  [`${grpcChain}[0].typed_config.default_source_code.filename`, grpcFile, 'a refused request with a gRPC content type would get 200'],
  [
    `${grpcChain}[1].typed_config.mutations.response_mutations`,
    [{ append: { header: { key: 'x-kura-status', value: '%RESPONSE_CODE%' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' } }],
    'grpc.lua could not restore the status of a refusal',
  ],
];

/** A response that carries a grant: no data of a request decides, so the request half of grants.lua always runs. */
const withGrant = {
  input: {
    name: 'grant',
    typed_config: { '@type': 'type.googleapis.com/envoy.type.matcher.v3.HttpResponseHeaderMatchInput', header_name: 'x-kura-grant' },
  },
  value_match: { exact: '1' },
};
const skip = {
  name: 'skip',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter' },
};

/** Every request passes authz. */
const accessRows: readonly Row[] = [
  [`${authorization}.failure_mode_allow`, false, 'without authz Envoy would allow every request'],
  [
    `${manager}.http_filters[*].name`,
    ['kura.grpc', 'local_ratelimit', 'kura.grants', 'kura.authz', 'router'].map((name) =>
      name.startsWith('kura.') ? name : `envoy.filters.http.${name}`,
    ),
    'a request could pass unchecked',
  ],
  [
    `${grants}.extension_config.typed_config.default_source_code.filename`,
    grantsFile,
    'every request would ask authz, and one key would have several spellings',
  ],
  [
    `${grants}.xds_matcher.matcher_list.matchers`,
    [{ predicate: { not_matcher: { single_predicate: withGrant } }, on_match: { action: skip } }],
    'Envoy would skip the script for requests, or learn no grant',
  ],
  [
    `${authzMatcher}.matcher_list.matchers[0].predicate.single_predicate.input.typed_config`,
    { '@type': 'type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput', header_name: 'x-kura-caller' },
    'Envoy would skip authz for requests that no grant covers, or ask it for all',
  ],
  [
    `${authzMatcher}.matcher_list.matchers[0].predicate.single_predicate.value_match`,
    { contains: '/' },
    'Envoy would skip authz for requests that no grant covers, or ask it for all',
  ],
  [`${authzMatcher}.on_no_match.action.typed_config.typed_config.name`, 'envoy.filters.http.ext_authz', 'a request could pass unchecked'],
  ['admin.address.socket_address.address', '127.0.0.1', 'any client in the network could stop Envoy'],
  ...['/quitquitquit', '/runtime_modify', '/cpuprofiler'].map(
    (path): Row => ['admin.allow_paths', new Condition('denying', path), 'other containers of the Pod could stop or change Envoy'],
  ),
  ...['/ready', '/stats/prometheus', '/healthcheck/fail', '/drain_listeners'].map(
    (path): Row => ['admin.allow_paths', new Condition('allowing', path), 'probes, metrics or the drain would fail'],
  ),
];

/** What a caller without a token can take: connections for some seconds, and memory up to the limits. */
const floodRows: readonly Row[] = [
  [`${objects}.listener_filters_timeout`, new Condition('atMost', '10s'), 'a silent connection would cost minutes'],
  [`${objects}.listener_filters[0].name`, 'envoy.filters.listener.http_inspector', 'a silent connection would cost minutes'],
  [
    'overload_manager.actions[envoy.overload_actions.reduce_timeouts].triggers',
    [
      {
        name: 'envoy.resource_monitors.global_downstream_max_connections',
        scaled: { scaling_threshold: 0.5, saturation_threshold: 0.9 },
      },
    ],
    'idle connections would keep others out for minutes',
  ],
  [
    'overload_manager.actions[envoy.overload_actions.stop_accepting_requests].triggers',
    new Condition('listWith', { name: 'envoy.resource_monitors.cgroup_memory', threshold: { value: 0.95 } }),
    'the kernel would kill Envoy for memory outside its heap, such as that of Lua',
  ],
];

/** Each write that authz or a grant allows, without those that only name a caller. */
const writes = {
  and_filter: {
    filters: [
      ...['GET', 'HEAD'].map((exact) => ({ header_filter: { header: { name: ':method', string_match: { exact }, invert_match: true } } })),
      { header_filter: { header: { name: 'x-kura-caller', present_match: true } } },
      {
        extension_filter: {
          name: 'envoy.access_loggers.extension_filters.cel',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter',
            expression: "xds.route_name != ''",
          },
        },
      },
    ],
  },
};

/** The logs: tokens stay out of them, writes are in them, and authz learns of transfers. */
const logRows: readonly Row[] = [
  [`${lines}.filter.or_filter.filters`, new Condition('listWith', writes), 'nobody could find the writer of an object'],
  [
    `${lines}.typed_config.log_format.json_format.caller`,
    "%CEL(xds.route_name != '' ? request.headers['x-kura-caller'] : null)%",
    'the access log would show no caller, or one that a client names',
  ],
  [`${manager}.access_log`, [], 'the access log would contain tokens', authorizationFields],
  [`${manager}.access_log`, [], 'the access log would contain signed terms, with which its reader could act for a caller', termsFields],
  [
    `${transfers}.filter`,
    {
      metadata_filter: {
        matcher: { filter: 'envoy.filters.http.ext_authz', path: [{ key: 'counts_bytes' }], value: { bool_match: true } },
        match_if_key_not_found: false,
      },
    },
    'bytesPerSecond would limit no namespace',
  ],
  [
    `${transfers}.typed_config.common_config.grpc_service.envoy_grpc.cluster_name`,
    'authz',
    'authz would get no transfers, and bytesPerSecond would limit no namespace',
  ],
  [
    `${transfers}.typed_config.additional_request_headers_to_log`,
    new Condition('listWith', 'x-kura-caller'),
    'authz could not count the bytes of a namespace, and bytesPerSecond would limit no namespace',
  ],
];

/** A failure reaches its client in time, and a running transfer continues. */
const timeRows: readonly Row[] = [
  ...['read', 'write', 'read-direct', 'write-direct', 'through', 'write-through'].flatMap((name): Row[] => {
    const header = name === 'read' || name === 'write' ? byPath : byObjectsPath;
    const route = `${routes}[${name}].route`;
    const longest = name === 'through' ? maxThroughFailure : maxFailure;
    return [
      [`${route}.timeout`, '0s', 'Envoy would cut long transfers'],
      [`${route}.hash_policy`, [{ header }], 'keys would move to other shards, or have two shards'],
      [route, new Condition('atMost', longest), 'clients would give up before they get the failure', longestFailure],
    ];
  }),
  ...['write', 'write-direct', 'write-through'].map(
    (name): Row => [`${routes}[${name}].route.retry_policy.retry_on`, undefined, 'Envoy would buffer the body of every upload'],
  ),
  [
    `${routes}[through].route.retry_policy.retry_on`,
    'connect-failure,refused-stream',
    'a failed fetch from an origin would run again on a second shard',
  ],
  ...['read', 'read-direct', 'through'].map(
    (name): Row => [
      `${routes}[${name}].match.headers`,
      [{ name: ':method', string_match: { safe_regex: { regex: 'GET|HEAD' } } }],
      'Envoy would repeat requests that must not run twice',
    ],
  ),
  [`${manager}.delayed_close_timeout`, '0s', 'a client that pauses would lose the end of a response that ends its connection'],
  [
    `${cache}.connect_timeout`,
    new Condition('belowValueOf', `${routes}[read].route.retry_policy.per_try_timeout`),
    'no time would remain for the next shard',
  ],
  [
    `${cacheHttp}.common_http_protocol_options.idle_timeout`,
    new Condition('below', cacheSettings.keepAlive.fallback),
    'requests would fail on connections that a shard is closing',
  ],
];

/** Keys keep their shards. */
const shardRows: readonly Row[] = [
  [
    `${cache}.load_balancing_policy.policies[0].typed_extension_config.typed_config.@type`,
    new Condition('endingIn', '.maglev.v3.Maglev'),
    'keys would move when the set of shards changes',
  ],
  [`${cache}.common_lb_config.healthy_panic_threshold.value`, 0, 'Envoy would send keys to dead shards'],
  [`${cache}.ignore_health_on_host_removal`, true, 'a removed shard would stay while its health check passes'],
  [
    `${cache}.health_checks[0].http_health_check.service_name_matcher`,
    { exact: 'kura-cache' },
    'Envoy would send requests to any Pod that got the address of a former shard',
  ],
  [`${cache}.outlier_detection.enforcing_consecutive_5xx`, 0, 'Envoy would eject a shard that correctly returns 507'],
];

/** Names, ports and sockets agree with the services. */
const addressRows: readonly Row[] = [
  [`${cache}.eds_cluster_config.service_name`, edsSettings.service.fallback, 'eds would send no shards'],
  [
    `${cache}.eds_cluster_config.eds_config.initial_fetch_timeout`,
    new Condition('atMost', '0s'),
    'Envoy would become ready without shards and return 503',
  ],
  [
    `${cache}.eds_cluster_config.eds_config.api_config_source.grpc_services[0].envoy_grpc.retry_policy.retry_back_off.max_interval`,
    new Condition('atMost', '0.5s'),
    'an Envoy that waits for eds would be ready later than 2 s after its return',
  ],
  [
    'static_resources.clusters[eds].cluster_type.typed_config.dns_refresh_rate',
    new Condition('atMost', '1s'),
    'an Envoy that waits for eds would be ready later than 2 s after its return',
  ],
  ['static_resources.clusters[eds].health_checks[0].grpc_health_check', {}, 'Envoy would stay with an eds that has lost the API'],
  ['admin.address.socket_address.port_value', 9901, 'the metrics listener could not reach the admin interface'],
  [`${objects}.address.socket_address.port_value`, 8080, 'the Service kura would reach no listener'],
  [
    'static_resources.listeners[metrics].filter_chains[0].filters[0].typed_config.http_filters[startup].typed_config.cluster_min_healthy_percentages.authz.value',
    1,
    'a new Envoy would get traffic before it knows an authz',
  ],
  ['static_resources.listeners[metrics].address.socket_address.port_value', 9902, 'the probes and Prometheus would reach no listener'],
  [
    `static_resources.clusters[authz].${firstEndpoint}.pipe.path`,
    String(authzSettings.listen.fallback).replace(/^unix:/, ''),
    'Envoy could not reach authz and would reject every request',
  ],
  [
    `static_resources.clusters[eds].${firstEndpoint}.socket_address.port_value`,
    Number(String(edsSettings.listen.fallback).replace(/^.*:/, '')),
    'Envoy could not reach eds and would have no shards',
  ],
];

export const bootstrapRules: readonly Row[] = [
  ...keyRows,
  ...grpcRows,
  ...accessRows,
  ...floodRows,
  ...logRows,
  ...timeRows,
  ...shardRows,
  ...addressRows,
];

/** All strings of the access logs that mention the header Authorization. */
function authorizationFields(bootstrap: unknown, path: string): string[] {
  return JSON.stringify(valueAt(bootstrap, path) ?? []).match(/"[^"]*authorization[^"]*"/gi) ?? [];
}

/** All strings of the access logs that mention the header x-kura-terms. */
function termsFields(bootstrap: unknown, path: string): string[] {
  return JSON.stringify(valueAt(bootstrap, path) ?? []).match(/"[^"]*x-kura-terms[^"]*"/gi) ?? [];
}

/** The longest time from the last byte of a request to its failure: the check by authz, and each try of the route at `path`. */
function longestFailure(bootstrap: unknown, path: string): string {
  const policy = valueAt(bootstrap, `${path}.retry_policy`) as
    | { retry_on?: string; num_retries?: number; per_try_timeout?: string }
    | undefined;
  const tries = policy?.retry_on === undefined ? 1 : 1 + (policy.num_retries ?? Number.NaN);
  return `${seconds(valueAt(bootstrap, `${authorization}.grpc_service.timeout`)) + tries * seconds(policy?.per_try_timeout)}s`;
}
