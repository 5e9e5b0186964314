/** Access to a Kubernetes API: @kubernetes/client-node's typed calls and raw watches, on a few connections that all calls share. */
import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { createConfiguration, KubeConfig, type RequestContext, ServerConfiguration } from '@kubernetes/client-node';
import { Agent, type Dispatcher, request } from 'undici';

/** client-node opens a TLS connection per call by itself (3.5 ms each, measured); these are shared and kept. */
const callConnections = 4;
/** Credentials and CA are looked at this often, so that rotated files are taken up. */
const credentialAgeMs = 1_000;
const connectTimeoutMs = 2_000;
const keepAliveMs = 60_000;
/** A watch keeps its connection as long as it lives; a list's is not needed for long. */
const streamKeepAliveMs = 1_000;
/** The longest that a call waits for its answer; most callers have a shorter deadline of their own. */
const answerLimitMs = 10_000;

// biome-ignore lint/suspicious/noExplicitAny: the parameter of client-node's own ApiConstructor; its configuration type is not exported.
type ApiConstructor<T> = new (configuration: any) => T;

interface RawRequest {
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface KubernetesClient {
  /** One of client-node's APIs, such as CoreV1Api. Calls reject with ApiException, or with a network error. */
  api<T>(kind: ApiConstructor<T>): T;
  /** A GET whose answer is read as a stream; its connection is not counted among those of the calls. */
  open(path: string, request: RawRequest): Promise<Dispatcher.ResponseData>;
  /** Ends every connection, watches included. */
  close(): Promise<void>;
}

interface Credentials {
  readonly readAt: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly agents: { readonly calls: Agent; readonly streams: Agent };
}

/** Reads the kubeconfig file, or the Pod's own ServiceAccount without one. Throws when there is neither. */
export function connectKubernetes({ kubeconfig }: { kubeconfig?: string | undefined }): KubernetesClient {
  const config = new KubeConfig();
  if (kubeconfig === undefined) config.loadFromCluster();
  else config.loadFromFile(kubeconfig);
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) throw new Error(`${kubeconfig ?? 'the Pod'} names no cluster`);

  let last: Credentials | undefined;
  let reading: Promise<Credentials> | undefined;
  let tls = '';
  const credentials = async (): Promise<Credentials> => {
    const known = last;
    if (known !== undefined && performance.now() - known.readAt < credentialAgeMs) return known;
    // One reading for all who ask meanwhile: each would otherwise make agents, and connections, of its own.
    reading ??= readCredentials(known)
      .then((read) => {
        last = read;
        return read;
      })
      .finally(() => {
        reading = undefined;
      });
    return await reading;
  };
  const readCredentials = async (known: Credentials | undefined): Promise<Credentials> => {
    const options: RequestOptions = { headers: {} };
    await config.applyToHTTPSOptions(options);
    const { ca, cert, key, pfx, passphrase, rejectUnauthorized, servername } = options;
    const material = JSON.stringify([ca, cert, key, pfx, passphrase, rejectUnauthorized, servername].map((part) => part?.toString()));
    const headers = options.headers as Record<string, string>;
    const tokenFile = (config.getCurrentUser()?.authProvider as { config?: { tokenFile?: string } } | undefined)?.config?.tokenFile;
    // client-node keeps the file's token for 60 s; one that was rotated because it leaked is dead at once.
    if (tokenFile !== undefined) headers.Authorization = `Bearer ${(await readFile(tokenFile, 'utf8')).trim()}`;
    if (known !== undefined && material === tls) return { ...known, headers, readAt: performance.now() };
    tls = material;
    const connect = {
      ca,
      cert,
      key,
      pfx,
      passphrase,
      rejectUnauthorized,
      servername,
      timeout: connectTimeoutMs,
    } as NonNullable<Agent.Options['connect']>;
    const shared = { connect, bodyTimeout: 0 };
    const agents = {
      calls: new Agent({ ...shared, keepAliveTimeout: keepAliveMs, connections: callConnections, headersTimeout: answerLimitMs }),
      // The server's own hint, 90 s, would count otherwise.
      streams: new Agent({ ...shared, keepAliveTimeout: streamKeepAliveMs, keepAliveMaxTimeout: streamKeepAliveMs }),
    };
    if (known !== undefined) void Promise.all([known.agents.calls.close(), known.agents.streams.close()]);
    return { readAt: performance.now(), headers, agents };
  };

  const configuration = createConfiguration({
    baseServer: new ServerConfiguration(server, {}),
    authMethods: {
      default: {
        getName: () => 'kura',
        applySecurityAuthentication: async (context: RequestContext) => {
          const { headers, agents } = await credentials();
          for (const [name, value] of Object.entries(headers)) context.setHeaderParam(name, value);
          context.setHeaderParam('User-Agent', 'kura');
          context.setDispatcher(agents.calls);
        },
      },
    },
  });

  return {
    api: (kind) => new kind(configuration),
    open: async (path, { query = {}, headers = {}, signal }) => {
      const url = new URL(server + path);
      for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
      const { headers: authorization, agents } = await credentials();
      return await request(url, { dispatcher: agents.streams, signal, headers: { ...authorization, ...headers, 'user-agent': 'kura' } });
    },
    close: async () => {
      await reading?.catch(() => undefined);
      if (last !== undefined) await Promise.all([last.agents.calls.destroy(), last.agents.streams.destroy()]);
    },
  };
}
