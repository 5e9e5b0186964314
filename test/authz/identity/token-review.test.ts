import type { AuthenticationV1Api } from '@kubernetes/client-node';
import test from 'ava';
import { TokenReviewer } from '../../../services/authz/identity/token-review.ts';
import type { KubernetesClient } from '../../../services/shared/kubernetes.ts';

test('a review that gets no turn within 0.3 s is refused as overload, long before its deadline', async (t) => {
  const open: ((answer: object) => void)[] = [];
  const api = { createTokenReview: () => new Promise((resolve) => open.push(resolve)) } as unknown as AuthenticationV1Api;
  const client = { api: () => api } as unknown as KubernetesClient;
  const reviewer = new TokenReviewer({ client, audience: 'kura', deadlineMs: 3_600_000, maxInFlight: 1, allowUnbound: false });
  const first = reviewer.review('a', { bypassServerCache: false });
  t.like(await reviewer.review('b', { bypassServerCache: false }), { kind: 'unavailable', isOverload: true });
  t.is(open.length, 1);
  open[0]?.({ status: { authenticated: false } });
  t.is((await first).kind, 'refused');
});
