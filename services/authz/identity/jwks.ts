/** The public keys that verify the cluster's ServiceAccount tokens, read from `/openid/v1/jwks` and cached. */
import { createPublicKey, type JsonWebKeyInput } from 'node:crypto';
import type { JSONWebKeySet, JWK } from 'jose';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import { isAlgorithm, type VerifyingKey } from './signature.ts';

export type KeysAnswer =
  | { readonly kind: 'keys'; readonly set: JSONWebKeySet }
  /** The cluster does not publish its keys (403, 404). */
  | { readonly kind: 'hidden' }
  | { readonly kind: 'unavailable' };

export type KeyLookup =
  | { readonly kind: 'key'; readonly key: VerifyingKey }
  | { readonly kind: 'no-such-key' }
  /** No key is known, so only the API can verify the token. */
  | { readonly kind: 'unchecked' }
  /** A newer set may contain the key, but the API does not return it. */
  | { readonly kind: 'unavailable' };

/** A token with an unknown key id causes a new read, at most this often. Forged tokens therefore cost at most one GET per second. */
const rereadMs = 1_000;
/** How often the keys are requested again after 403 or 404: an API server that has just started returns 403 to everything. */
const hiddenMs = 30_000;
/** A real JWKS has one to three keys. The limit bounds the work for a broken one. */
const maxKeys = 100;
const maxReadMs = 2_000;
/** Maximum time that a check waits for the keys. The review needs the rest of the 1 s that Envoy allows. */
const maxWaitMs = 150;

/** Finds keys by their id. */
export class ClusterKeys {
  readonly #read: () => Promise<KeysAnswer>;
  readonly #now: () => number;
  #keys = new Map<string, VerifyingKey>();
  #state: KeysAnswer['kind'] = 'unavailable';
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;

  constructor({ read, now }: { read: () => Promise<KeysAnswer>; now: () => number }) {
    this.#read = read;
    this.#now = now;
  }

  async find(id: string | undefined): Promise<KeyLookup> {
    const known = this.#keys.get(id ?? '');
    if (known !== undefined) return { kind: 'key', key: known };
    if (this.#now() - this.#readAt >= (this.#state === 'hidden' ? hiddenMs : rereadMs)) await withinMaxWait(this.refresh());
    else if (this.#reading !== undefined) await withinMaxWait(this.#reading);
    const found = this.#keys.get(id ?? '');
    if (found !== undefined) return { kind: 'key', key: found };
    switch (this.#state) {
      case 'keys':
        return { kind: 'no-such-key' };
      case 'hidden':
        return { kind: 'unchecked' };
      case 'unavailable':
        return { kind: this.#keys.size === 0 ? 'unchecked' : 'unavailable' };
      default:
        return this.#state satisfies never;
    }
  }

  /** Reads the keys. Concurrent callers share one read. Never rejects. */
  refresh(): Promise<void> {
    this.#reading ??= this.#take().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #take(): Promise<void> {
    this.#readAt = this.#now();
    const answer = await this.#read();
    this.#state = answer.kind;
    if (answer.kind === 'hidden') this.#keys = new Map();
    if (answer.kind !== 'keys') return;
    const keys = new Map<string, VerifyingKey>();
    for (const jwk of answer.set.keys.slice(0, maxKeys)) {
      const key = verifyingKeyOf(jwk);
      if (key !== undefined) keys.set(jwk.kid ?? '', key);
    }
    this.#keys = keys;
  }
}

/** Undefined for a key of an unsupported kind, such as a symmetric one. The other keys of the set stay usable. */
function verifyingKeyOf(jwk: JWK): VerifyingKey | undefined {
  const algorithm = jwk.alg ?? 'RS256';
  if (!isAlgorithm(algorithm) || jwk.kty !== (algorithm.startsWith('RS') ? 'RSA' : 'EC')) return undefined;
  try {
    return { algorithm, key: createPublicKey({ key: jwk as JsonWebKeyInput['key'], format: 'jwk' }) };
  } catch {
    return undefined;
  }
}

/** Reads the cluster's JWKS. Never rejects. */
export function createKeysReader(client: KubernetesClient, limitMs = maxReadMs): () => Promise<KeysAnswer> {
  return async () => {
    try {
      const { statusCode, body } = await client.open('/openid/v1/jwks', { signal: AbortSignal.timeout(limitMs) });
      const text = await body.text();
      if (statusCode === 403 || statusCode === 404) return { kind: 'hidden' };
      if (statusCode !== 200) return { kind: 'unavailable' };
      const set = JSON.parse(text) as JSONWebKeySet;
      return Array.isArray(set.keys) ? { kind: 'keys', set } : { kind: 'unavailable' };
    } catch {
      return { kind: 'unavailable' };
    }
  };
}

async function withinMaxWait(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, maxWaitMs);
  });
  await Promise.race([work, limit]).finally(() => clearTimeout(timer));
}
