/** authz: tells Envoy who is asking and whether they may. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Closer, startWithCloser } from '../shared/closer.ts';
import { type Credentials, openCredentials } from '../shared/credential-file.ts';
import { DocumentSource } from '../shared/document-source.ts';
import { readSettings, type Settings } from '../shared/environment.ts';
import { startGrpcServer } from '../shared/grpc.ts';
import { connectKubernetes, type KubernetesClient } from '../shared/kubernetes.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger, type Logger } from '../shared/log.ts';
import { createRegistry, type Route, startMetricsServer } from '../shared/metrics.ts';
import { audited, createAudit } from './audit.ts';
import { CallerSigner } from './caller-signer.ts';
import { addCheck } from './check.ts';
import { settings } from './config.ts';
import { createDecide, type Decide } from './decision.ts';
import { ClusterKeys, createKeysReader } from './identity/jwks.ts';
import { createLocalCheck } from './identity/jwt.ts';
import { type RunningPods, watchPods } from './identity/pods.ts';
import { IdentityResolver } from './identity/resolver.ts';
import { TokenReviewer } from './identity/token-review.ts';
import { LoadShedder } from './load-shedder.ts';
import { Metrics } from './metrics.ts';
import { ApiOutage } from './outage.ts';
import { compileOriginTerms, noOrigins, type OriginTerms } from './policy/origin-terms.ts';
import { PolicySource } from './policy/source.ts';
import { NamespaceRates } from './rate-limit/rate.ts';
import { createThrottle } from './rate-limit/throttle.ts';
import { addTransfers } from './rate-limit/transfers.ts';

type OriginsSource = DocumentSource<readonly OriginTerms[]>;

/** Calls in flight may end; Envoy gives each 1 s. */
const graceMs = 1_000;

await runService('authz', async () => {
  const config = readSettings('KURA_AUTHZ_', settings, process.env);
  const log = createLogger({ service: 'authz', level: config.logLevel });
  return { log, running: await startWithCloser((closer) => start(config, log, closer)) };
});

async function start(config: Settings<typeof settings>, log: Logger, closer: Closer): Promise<Record<string, string>> {
  const client = connectKubernetes({ kubeconfig: config.kubeconfig });
  closer.add('Kubernetes client', () => client.close());
  const policy = new PolicySource({ client, namespace: config.namespace, lastGoodFile: config.policyFile, log });
  closer.add('policy', () => policy.close());
  const origins = watchOrigins(config, client, log);
  closer.add('origins document', () => origins.close());
  const pods = watchPods({ client, log, now: Date.now });
  closer.add('Pods', () => pods.close());
  const reviewer = new TokenReviewer({
    client,
    audience: config.audience,
    deadlineMs: config.reviewDeadline,
    maxInFlight: config.reviewsInFlight,
    allowUnbound: config.allowUnbound,
  });
  // Loaded only here: without a collector, the packages cost neither memory nor start time.
  const tracing =
    config.tracesEndpoint === undefined ? undefined : (await import('./tracing.ts')).startTracing({ url: config.tracesEndpoint, log });
  if (tracing !== undefined) closer.add('tracing', () => tracing.close());
  const registry = createRegistry();
  const outage = new ApiOutage({ log });
  const metrics = new Metrics(registry, {
    reviewsInFlight: () => reviewer.inFlight,
    rememberedTokens: () => identities.remembered,
    isPodWatchHealthy: () => pods.healthy,
    policy,
    origins,
  });
  const keys = new ClusterKeys({ read: createKeysReader(client), now: () => performance.now() });
  const identities = new IdentityResolver({
    checkLocally: createLocalCheck({ audience: config.audience, findKey: (id) => keys.find(id), now: Date.now }),
    review: outage.watchReviews(metrics.countReviews(tracing?.traceReviews(reviewer.review) ?? reviewer.review)),
    pods,
    resultAgeMs: config.resultAge,
    watchedResultAgeMs: config.watchedResultAge,
    outageGraceMs: config.withoutApi,
    maxCachedTokens: config.cachedTokens,
    now: Date.now,
    random: Math.random,
    events: {
      served: (result) => {
        metrics.countServed(result);
        if (result.servedDuringOutage) outage.servedDuringOutage();
      },
      refusedHere: (reason) => metrics.countLocalRefusal(reason),
    },
  });
  closer.add('identities', () => identities.close());
  const credentials = openCredentials(config.credentialFile, log);
  closer.add('credentials', () => credentials.close());
  const rates = new NamespaceRates({ now: () => performance.now() });
  const audit = createAudit({ log, allowSample: config.auditSample, now: Date.now });
  const decideOnly = decideWith(config, { identities, policy, origins, rates, credentials });
  const decide = audited(metrics.countChecks(tracing?.traceChecks(decideOnly) ?? decideOnly), audit);
  // Before the first check, so that no forged token reaches the API; an API that is away delays the start by 2 s at most.
  await keys.refresh();
  let isListening = false;
  // Before the gRPC server, so that it answers until the last check has ended.
  const metricsServer = await startMetricsServer({
    address: config.metricsListen,
    registry,
    notReady: () => (policy.current === undefined ? policy.missing : isListening ? undefined : 'the gRPC server does not listen yet'),
    routes: {
      '/ending': endingPage(config, pods),
      '/debug/policy': (_request, response) => {
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(policy.report(), null, 2));
      },
    },
  });
  closer.add('metrics server', () => metricsServer.close());
  const grpc = await startGrpcServer({
    target: config.listen,
    graceMs,
    register: (server) => {
      addCheck(server, { decide, log });
      addTransfers(server, { transferred: (name, bytes) => rates.transferred(name, bytes) });
    },
  });
  closer.add('gRPC server', () => grpc.close());
  isListening = true;
  return { grpc: grpc.address, metrics: metricsServer.address };
}

/** For services/envoy-drain. A Pod that ends never returns, so a copy from before an outage of the API is good enough. */
function endingPage({ namespace, podName: name }: Settings<typeof settings>, pods: RunningPods): Route {
  return (_request, response) => {
    response.end(name !== undefined && pods.isEnding({ namespace, name }) ? 'yes\n' : 'no\n');
  };
}

/** The origin service watches the same document and writes the Events about it. */
function watchOrigins({ namespace, originsFile }: Settings<typeof settings>, client: KubernetesClient, log: Logger): OriginsSource {
  return new DocumentSource<readonly OriginTerms[]>({
    client,
    namespace,
    configMap: 'kura-origins',
    key: 'origins.yaml',
    what: 'origins document',
    component: 'kura-authz',
    writesEvents: false,
    isOptional: true,
    compile: compileOriginTerms,
    summary: (value) => ({ origins: value.length }),
    lastGoodFile: originsFile,
    log,
  });
}

/** The decision itself, before it is counted and audited. */
function decideWith(
  { grant, listen }: Settings<typeof settings>,
  {
    identities,
    policy,
    origins,
    rates,
    credentials,
  }: { identities: IdentityResolver; policy: PolicySource; origins: OriginsSource; rates: NamespaceRates; credentials: Credentials },
): Decide {
  const shedder = new LoadShedder({ now: Date.now });
  return createDecide({
    resolve: (token, options) => identities.resolve(token, options),
    // Over a network, the clock of Envoy is another one.
    isLate: (receivedAt) => listen.startsWith('unix:') && shedder.isLate(receivedAt),
    policy: () => policy.current,
    next: () => policy.next,
    origins: () => origins.current ?? noOrigins,
    version: () => policy.hash ?? '',
    labelsOf: (name) => policy.labelsOf(name),
    throttle: createThrottle({ rates, delay }),
    signer: new CallerSigner({ keys: () => credentials.keys, now: Date.now }),
    grantSeconds: grant / 1000,
    now: Date.now,
  });
}
