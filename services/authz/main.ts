/** authz: tells Envoy who is asking and whether they may. */
import { loadEnvoyProtos } from '../../proto/load.ts';
import { readSettings } from '../shared/environment.ts';
import { startGrpcServer } from '../shared/grpc.ts';
import { connectKubernetes } from '../shared/kubernetes.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import { createCheck } from './check.ts';
import { settings } from './config.ts';
import { createDecide } from './decision.ts';
import { IdentityResolver } from './identity.ts';
import { createMetrics } from './metrics.ts';
import { decide } from './policy.ts';
import { createTokenReviewer } from './token-review.ts';

/** Calls in flight may end; Envoy gives each 1 s. */
const graceMs = 1_000;

await runService(async () => {
  const { listen, metricsListen, kubeconfig, audience, logLevel, ...limits } = readSettings('KURA_AUTHZ_', settings, process.env);
  const log = createLogger({ service: 'authz', level: logLevel });
  const client = connectKubernetes({ kubeconfig });
  const registry = createRegistry();
  const metrics = createMetrics({ registry, reviewsInFlight: () => identities.reviewsInFlight });
  const identities = new IdentityResolver({
    review: metrics.countingReviews(createTokenReviewer({ client, audience, deadlineMs: limits.reviewDeadline })),
    resultAgeMs: limits.resultAge,
    withoutApiMs: limits.withoutApi,
    cachedTokens: limits.cachedTokens,
    reviewsInFlight: limits.reviewsInFlight,
    now: Date.now,
  });
  const check = createCheck({
    decide: metrics.countingChecks(createDecide({ resolve: (token) => identities.resolve(token), decide })),
    log,
  });
  const { Authorization } = loadEnvoyProtos().envoy.service.auth.v3;
  const grpc = await startGrpcServer({
    target: listen,
    graceMs,
    register: (server) => server.addService(Authorization.service, { Check: check }),
  });
  const metricsServer = await startMetricsServer({ address: metricsListen, registry, notReady: () => undefined });
  return {
    log,
    running: {
      listening: { grpc: grpc.address, metrics: metricsServer.address },
      close: async () => {
        await grpc.close();
        await metricsServer.close();
        identities.close();
        await client.close();
      },
    },
  };
});
