/** authz: tells Envoy who is asking and whether they may. */
import { setTimeout as delay } from 'node:timers/promises';
import { readSettings } from '../shared/environment.ts';
import { startGrpcServer } from '../shared/grpc.ts';
import { connectKubernetes } from '../shared/kubernetes.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import { audited, createAudit } from './audit.ts';
import { addCheck } from './check.ts';
import { settings } from './config.ts';
import { createDecide } from './decision.ts';
import { ClusterKeys, createKeysReader } from './identity/jwks.ts';
import { createLocalCheck } from './identity/jwt.ts';
import { watchPods } from './identity/pods.ts';
import { IdentityResolver } from './identity/resolver.ts';
import { TokenReviewer } from './identity/token-review.ts';
import { Metrics } from './metrics.ts';
import { ApiOutage } from './outage.ts';
import { PolicySource } from './policy/source.ts';
import { NamespaceRates } from './rate-limit/rate.ts';
import { createThrottle } from './rate-limit/throttle.ts';
import { addTransfers } from './rate-limit/transfers.ts';

/** Calls in flight may end; Envoy gives each 1 s. */
const graceMs = 1_000;

await runService(async () => {
  const { listen, metricsListen, kubeconfig, audience, namespace, policyFile, logLevel, ...limits } = readSettings(
    'KURA_AUTHZ_',
    settings,
    process.env,
  );
  const log = createLogger({ service: 'authz', level: logLevel });
  const client = connectKubernetes({ kubeconfig });
  const policy = new PolicySource({ client, namespace, lastGoodFile: policyFile, log });
  const registry = createRegistry();
  const pods = watchPods({ client, log, now: Date.now });
  const keys = new ClusterKeys({ read: createKeysReader(client), now: () => performance.now() });
  const reviewer = new TokenReviewer({
    client,
    audience,
    deadlineMs: limits.reviewDeadline,
    inFlight: limits.reviewsInFlight,
    allowUnbound: limits.allowUnbound,
  });
  const outage = new ApiOutage({ log });
  const metrics = new Metrics(registry, {
    reviewsInFlight: () => reviewer.inFlight,
    rememberedTokens: () => identities.remembered,
    isPodWatchHealthy: () => pods.healthy,
    policy,
  });
  const identities = new IdentityResolver({
    checkLocally: createLocalCheck({ audience, findKey: (id) => keys.find(id), now: Date.now }),
    review: outage.watchReviews(metrics.countReviews(reviewer.review)),
    pods,
    resultAgeMs: limits.resultAge,
    watchedResultAgeMs: limits.watchedResultAge,
    withoutApiMs: limits.withoutApi,
    cachedTokens: limits.cachedTokens,
    now: Date.now,
    random: Math.random,
    events: {
      served: (result) => {
        metrics.countServed(result);
        if (result.withoutApi) outage.servedWithoutApi();
      },
      refusedHere: (reason) => metrics.countLocalRefusal(reason),
    },
  });
  // Before the first check, so that no forged token slips through to the API; an API that is away delays the start by 2 s at most.
  await keys.refresh();
  const audit = createAudit({ log, allowSample: limits.auditSample, now: Date.now });
  const rates = new NamespaceRates({ now: () => performance.now() });
  const decide = createDecide({
    resolve: (token) => identities.resolve(token),
    policy: () => policy.current,
    next: () => policy.next,
    version: () => policy.hash ?? '',
    labelsOf: (name) => policy.labelsOf(name),
    throttle: createThrottle({ rates, delay }),
    grantSeconds: limits.grant / 1000,
    now: Date.now,
  });
  const grpc = await startGrpcServer({
    target: listen,
    graceMs,
    register: (server) => {
      addCheck(server, { decide: audited(metrics.countChecks(decide), audit), log });
      addTransfers(server, { transferred: (name, bytes) => rates.transferred(name, bytes) });
    },
  });
  const metricsServer = await startMetricsServer({
    address: metricsListen,
    registry,
    notReady: () => (policy.current === undefined ? policy.missing : undefined),
  });
  return {
    log,
    running: {
      listening: { grpc: grpc.address, metrics: metricsServer.address },
      close: async () => {
        await grpc.close();
        await metricsServer.close();
        identities.close();
        await policy.close();
        await pods.close();
        await client.close();
      },
    },
  };
});
