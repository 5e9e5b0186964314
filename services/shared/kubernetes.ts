/** Access to a Kubernetes API: the typed calls of @kubernetes/client-node and raw watches, over a few shared connections. */
import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { createConfiguration, KubeConfig, type RequestContext, ServerConfiguration } from '@kubernetes/client-node';
import { Agent, type Dispatcher, request } from 'undici';

/** client-node opens a TLS connection for each call, which costs 3.5 ms (measured). These connections are shared and kept. */
const maxCallConnections = 4;
/** Credentials and CA are read again at this age, so that rotated files take effect. */
const credentialAgeMs = 1_000;
const maxConnectMs = 2_000;
const keepAliveMs = 60_000;
/** A watch keeps its connection open. After a list, the connection is not needed for long. */
const streamKeepAliveMs = 1_000;
/** Most callers have a shorter deadline. */
const maxAnswerMs = 10_000;

// biome-ignore lint/suspicious/noExplicitAny: the parameter of client-node's own ApiConstructor; its configuration type is not exported.
type ApiConstructor<T> = new (configuration: any) => T;

interface RawRequest {
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface KubernetesClient {
  /** Returns an API of client-node, such as CoreV1Api. Calls reject with ApiException, or with a network error. */
  api<T>(kind: ApiConstructor<T>): T;
  /** Sends a GET and returns the response as a stream. Its connection does not count against the limit for calls. */
  open(path: string, request: RawRequest): Promise<Dispatcher.ResponseData>;
  /** Closes every connection, including those of watches. */
  close(): Promise<void>;
}

interface Credentials {
  readonly readAt: number;
  readonly headers: Readonly<Record<string, string>>;
  /** The TLS options of the agents, to detect a change. */
  readonly tlsText: string;
  readonly agents: { readonly calls: Agent; readonly streams: Agent };
}

/** Reads the kubeconfig file or, without one, the Pod's ServiceAccount. Throws when there is neither. */
export function connectKubernetes({ kubeconfig }: { kubeconfig?: string | undefined }): KubernetesClient {
  const config = new KubeConfig();
  if (kubeconfig === undefined) config.loadFromCluster();
  else config.loadFromFile(kubeconfig);
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) throw new Error(`${kubeconfig ?? 'the Pod'} names no cluster`);
  return new Connection(server, new CredentialSource(config));
}

class Connection implements KubernetesClient {
  readonly #server: string;
  readonly #credentials: CredentialSource;
  readonly #configuration: ReturnType<typeof createConfiguration>;

  constructor(server: string, credentials: CredentialSource) {
    this.#server = server;
    this.#credentials = credentials;
    this.#configuration = createConfiguration({
      baseServer: new ServerConfiguration(server, {}),
      authMethods: {
        default: {
          getName: () => 'kura',
          applySecurityAuthentication: async (context: RequestContext) => {
            const { headers, agents } = await credentials.current();
            for (const [name, value] of Object.entries(headers)) context.setHeaderParam(name, value);
            context.setHeaderParam('User-Agent', 'kura');
            context.setDispatcher(agents.calls);
          },
        },
      },
    });
  }

  api<T>(kind: ApiConstructor<T>): T {
    return new kind(this.#configuration);
  }

  async open(path: string, { query = {}, headers = {}, signal }: RawRequest): Promise<Dispatcher.ResponseData> {
    const url = new URL(this.#server + path);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    const { headers: authorization, agents } = await this.#credentials.current();
    return await request(url, { dispatcher: agents.streams, signal, headers: { ...authorization, ...headers, 'user-agent': 'kura' } });
  }

  close(): Promise<void> {
    return this.#credentials.close();
  }
}

/** The credentials of a kubeconfig and the agents that use them. They are read again after `credentialAgeMs`. */
class CredentialSource {
  readonly #config: KubeConfig;
  #last: Credentials | undefined;
  #reading: Promise<Credentials> | undefined;

  constructor(config: KubeConfig) {
    this.#config = config;
  }

  async current(): Promise<Credentials> {
    const last = this.#last;
    if (last !== undefined && performance.now() - last.readAt < credentialAgeMs) return last;
    // All concurrent callers share one read. Otherwise each would create its own agents and connections.
    this.#reading ??= this.#read(last).finally(() => {
      this.#reading = undefined;
    });
    return await this.#reading;
  }

  async close(): Promise<void> {
    await this.#reading?.catch(() => undefined);
    if (this.#last !== undefined) await Promise.all([this.#last.agents.calls.destroy(), this.#last.agents.streams.destroy()]);
  }

  async #read(last: Credentials | undefined): Promise<Credentials> {
    const options: RequestOptions = { headers: {} };
    await this.#config.applyToHTTPSOptions(options);
    const headers = options.headers as Record<string, string>;
    const tokenFile = (this.#config.getCurrentUser()?.authProvider as { config?: { tokenFile?: string } } | undefined)?.config?.tokenFile;
    // client-node caches the file's token for 60 s, but a token that was rotated after a leak is invalid immediately.
    if (tokenFile !== undefined) headers.Authorization = `Bearer ${(await readFile(tokenFile, 'utf8')).trim()}`;
    const { ca, cert, key, pfx, passphrase, rejectUnauthorized, servername } = options;
    const tls = { ca, cert, key, pfx, passphrase, rejectUnauthorized, servername };
    const tlsText = JSON.stringify(Object.values(tls).map((part) => part?.toString()));
    const isSameTls = last?.tlsText === tlsText;
    const agents = isSameTls ? last.agents : makeAgents(tls);
    if (last !== undefined && !isSameTls) void Promise.all([last.agents.calls.close(), last.agents.streams.close()]);
    this.#last = { readAt: performance.now(), headers, agents, tlsText };
    return this.#last;
  }
}

function makeAgents(tls: object): Credentials['agents'] {
  const connect = { ...tls, timeout: maxConnectMs } as NonNullable<Agent.Options['connect']>;
  const shared = { connect, bodyTimeout: 0 };
  return {
    calls: new Agent({ ...shared, keepAliveTimeout: keepAliveMs, connections: maxCallConnections, headersTimeout: maxAnswerMs }),
    // Without a maximum, undici would use the server's hint of 90 s.
    streams: new Agent({ ...shared, keepAliveTimeout: streamKeepAliveMs, keepAliveMaxTimeout: streamKeepAliveMs }),
  };
}
