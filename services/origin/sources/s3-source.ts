/** An origin that is a bucket of S3, or of a server with the same interface. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Readable } from 'node:stream';
import { GetObjectCommand, HeadObjectCommand, ListObjectsV2Command, S3Client, S3ServiceException } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { S3Source as S3Origin } from '../../shared/origins.ts';
import { checkHost, guardedLookup } from './address-guard.ts';
import {
  type ListedObject,
  type ListRequest,
  type ObjectSource,
  type Opened,
  type OpenRequest,
  OriginError,
  type ReachOptions,
  strongTag,
} from './object-source.ts';
import type { OriginCredentials } from './origin-credentials.ts';
import { encodeName, type OriginPath, utf8Of } from './origin-path.ts';

const maxConnectMs = 5_000;
/** The client of kura retries by itself, and the service has a time budget. */
const maxAttempts = 2;

export class S3Source implements ObjectSource {
  readonly #origin: S3Origin;
  readonly #allowedHosts: readonly string[];
  readonly #client: S3Client;

  constructor(origin: S3Origin, { allowedHosts, maxConcurrency, timeoutMs }: ReachOptions, credentials: OriginCredentials) {
    this.#origin = origin;
    this.#allowedHosts = allowedHosts;
    const agent = { keepAlive: true, maxSockets: maxConcurrency, lookup: guardedLookup(allowedHosts) };
    this.#client = new S3Client({
      region: origin.region,
      forcePathStyle: origin.pathStyle,
      maxAttempts,
      requestHandler: new NodeHttpHandler({
        httpAgent: new HttpAgent(agent),
        httpsAgent: new HttpsAgent(agent),
        connectionTimeout: Math.min(maxConnectMs, timeoutMs),
        socketTimeout: timeoutMs,
      }),
      ...(origin.endpoint === undefined ? {} : { endpoint: origin.endpoint }),
      ...(credentials.areS3 ? { credentials: () => credentials.s3() } : {}),
    });
  }

  async open(path: OriginPath, { method, range, signal }: OpenRequest): Promise<Opened> {
    const name = utf8Of(path);
    if (name === undefined) return { kind: 'miss' };
    try {
      this.#checkEndpoint();
      const object = { Bucket: this.#origin.bucket, Key: this.#origin.prefix + name };
      const Range = range === undefined ? undefined : `bytes=${range.first}-${range.last ?? ''}`;
      const options = { abortSignal: signal };
      const response =
        method === 'HEAD'
          ? { ...(await this.#client.send(new HeadObjectCommand({ ...object, Range }), options)), Body: undefined }
          : await this.#client.send(new GetObjectCommand({ ...object, Range }), options);
      const part = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.ContentRange ?? '');
      if (part !== null && Number(part[1]) !== range?.first) {
        (response.Body as Readable | undefined)?.destroy();
        return { kind: 'failed', reason: `the origin responds with the range "${response.ContentRange}"` };
      }
      return {
        kind: 'object',
        bytes: part === null ? response.ContentLength : Number(part[3]),
        first: part === null ? undefined : Number(part[1]),
        bodyBytes: response.ContentLength,
        version: strongTag(response.ETag),
        modified: response.LastModified,
        body: response.Body as Readable | undefined,
      };
    } catch (error) {
      return faultOf(error as Error);
    }
  }

  async *list({ prefix, after, signal }: ListRequest): AsyncIterable<ListedObject> {
    const [name, start] = [utf8Of(prefix), after === undefined ? undefined : utf8Of(after)];
    if (name === undefined) return;
    let token: string | undefined;
    do {
      const command = new ListObjectsV2Command({
        Bucket: this.#origin.bucket,
        Prefix: this.#origin.prefix + name,
        ...(start === undefined ? {} : { StartAfter: this.#origin.prefix + start }),
        ...(token === undefined ? {} : { ContinuationToken: token }),
      });
      const page = await this.#client.send(command, { abortSignal: signal }).catch((error: Error) => {
        const fault = faultOf(error);
        throw new OriginError(
          fault.kind === 'refused' ? 'refused' : 'failed',
          'reason' in fault ? fault.reason : 'the bucket does not exist',
          { cause: error },
        );
      });
      for (const { Key = '', Size = 0, LastModified } of page.Contents ?? [])
        yield { path: encodeName(Buffer.from(Key.slice(this.#origin.prefix.length))), bytes: Size, modified: LastModified };
      token = page.NextContinuationToken;
    } while (token !== undefined);
  }

  async close(): Promise<void> {
    this.#client.destroy();
  }

  #checkEndpoint(): void {
    if (this.#origin.endpoint !== undefined) checkHost(new URL(this.#origin.endpoint).hostname, this.#allowedHosts);
  }
}

function faultOf(error: Error): Opened {
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  if (status === 404) return error.name === 'NoSuchBucket' ? { kind: 'failed', reason: 'the bucket does not exist' } : { kind: 'miss' };
  if (status === 416) return { kind: 'range-not-satisfiable' };
  if (status === 401 || status === 403 || error.name === 'CredentialsProviderError')
    return { kind: 'refused', reason: `the origin refuses the request: ${error.name}` };
  return { kind: 'failed', reason: `the origin cannot be read: ${error.message || error.name}` };
}
