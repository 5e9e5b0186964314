/** One fill: fetches an object from its origin into a file, for all requests that wait for it. It continues after they have left. */
import type { Key } from '../../shared/key.ts';
import { within } from '../disk/deadline.ts';
import type { FaultSink } from '../disk/disk-health.ts';
import { maxContentTypeBytes, maxNamespaceBytes, maxOriginVersionBytes, maxWriterBytes } from '../disk/trailer.ts';
import { type Condition, ConditionError, RevokedError } from '../store/condition.ts';
import type { Store } from '../store/store.ts';
import { NoRoomError, type Upload } from '../store/upload.ts';
import type { FillSlot } from './fill-bounds.ts';
import { Growth } from './growth.ts';
import type { OriginClient, OriginFault, OriginObject } from './origin-client.ts';

/** The request that causes a fill, with the identity and the limits of its caller. */
export interface FillRequest {
  readonly key: Key;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod: string;
  readonly maxObjectBytes: number;
  readonly fill: {
    readonly origin: string;
    readonly share: number | undefined;
    readonly revalidateSeconds: number | undefined;
    readonly isPrefetch: boolean;
    readonly callerHeader: string;
    readonly termsHeader: string;
  };
  /** The stored version that the fill may replace. Undefined: none is stored. */
  readonly replaces: string | undefined;
}

interface FillOptions {
  readonly origin: OriginClient;
  readonly store: Store;
  readonly health: FaultSink & { readonly isReadOnly: boolean };
  readonly slot: FillSlot;
  /** One wait for the disk. */
  readonly writeMs: number;
  readonly onBytes: (bytes: number) => void;
}

export type FillFault = OriginFault | 'no-length';

export type FillState =
  /** The length is not known yet. */
  | { readonly kind: 'opening' }
  | {
      readonly kind: 'growing';
      readonly growth: Growth;
      readonly length: number;
      readonly contentType: string;
      readonly tag: string | undefined;
    }
  /** The shard does not store the object. Each request fetches it alone. */
  | { readonly kind: 'alone'; readonly length: number; readonly contentType: string; readonly tag: string | undefined }
  | { readonly kind: 'fault'; readonly fault: FillFault };

/** How a fill ended. `not-kept`: a PUT or DELETE of the key came in between. */
export type FillResult = 'stored' | 'not-kept' | 'alone' | FillFault;

interface Begun {
  readonly upload: Upload;
  readonly growth: Growth;
  readonly maxBytes: number;
}

type Received = FillResult | 'broken';

/** Without an announced length, no response can begin before the end of the body. */
const maxUnknownBytes = 64 * 1024 * 1024;
/** A body that brings less than this in this time has failed. */
const [minPacedBytes, maxPacedMs] = [64 * 1024, 60_000];

export class Fill {
  readonly request: FillRequest;
  /** A commit time: a removal covers the fill if its time is not earlier. */
  readonly begunAt: bigint;
  /** Resolves when the object is stored, or will not be. Does not reject. */
  readonly ended: Promise<FillResult>;
  /** A PUT or DELETE of the key has come after the start. */
  isSuperseded = false;
  readonly #options: FillOptions;
  readonly #stop = new AbortController();
  #state: FillState = { kind: 'opening' };
  #settled = Promise.withResolvers<void>();
  /** The open body of an object that is not stored, for the first request that wants it. */
  #untaken: OriginObject | undefined;
  #growth: Growth | undefined;
  #hasCountedBytes = false;
  /** The fill itself, its files until they are stored or free, and a taken body. The last one gives the slot back. */
  #holders = 1;

  constructor(request: FillRequest, options: FillOptions) {
    this.request = request;
    this.#options = options;
    this.begunAt = options.store.now();
    this.ended = this.#run();
  }

  get state(): FillState {
    return this.#state;
  }

  /** The state after `opening`; still `opening` after `limitMs`. */
  async settled(limitMs: number): Promise<FillState> {
    if (this.#state.kind === 'opening') {
      const late = Promise.withResolvers<void>();
      const timer = setTimeout(late.resolve, Math.max(0, limitMs));
      await Promise.race([this.#settled.promise, late.promise]);
      clearTimeout(timer);
    }
    return this.#state;
  }

  /** Returns the open body of an object that is not stored, once. The caller must call `leave` at its end. */
  take(): { readonly object: OriginObject; readonly leave: () => void } | undefined {
    const object = this.#untaken;
    this.#untaken = undefined;
    return object === undefined ? undefined : { object, leave: this.#letGo };
  }

  abort(): void {
    this.#stop.abort();
  }

  async #run(): Promise<FillResult> {
    let result = await this.#fetch();
    const broken = this.#growth;
    if (result === 'broken' && broken?.isSent === false) {
      // The object may have changed at the origin while it was read. Readers without a byte get its new version.
      this.#setState({ kind: 'opening' });
      broken.end();
      result = await this.#fetch();
    }
    const end = result === 'broken' ? 'failed' : result;
    // The readers look at the state when the growth ends.
    if (end !== 'stored' && end !== 'not-kept' && end !== 'alone') this.#setState({ kind: 'fault', fault: end });
    this.#growth?.end();
    this.#letGo();
    return end;
  }

  readonly #letGo = (): void => {
    this.#holders -= 1;
    if (this.#holders === 0) this.#options.slot.leave();
  };

  async #fetch(): Promise<Received> {
    const { origin, slot } = this.#options;
    const { key, fill } = this.request;
    this.#growth = undefined;
    const object = await origin.open({ method: 'GET', key, fill, signal: this.#stop.signal });
    if (object.kind !== 'object') return object.kind;
    if (!this.#hasCountedBytes && !slot.addBytes(object.length ?? maxUnknownBytes)) return this.#drop(object, 'busy');
    this.#hasCountedBytes = true;
    const upload = this.#begin(object);
    return upload === undefined ? this.#leaveAlone(object) : await this.#receive(object, upload);
  }

  /** Undefined if the shard does not store the object. */
  #begin({ length, contentType, version }: OriginObject): Begun | undefined {
    const { store, health } = this.#options;
    const { key, namespace, serviceAccount, pod, maxObjectBytes, fill } = this.request;
    if (health.isReadOnly || (length ?? 0) > maxObjectBytes) return undefined;
    const growth = new Growth({ store, key, contentType, onSettled: this.#letGo }, length);
    const begun = store.begin({
      key,
      length,
      contentType: keep(contentType, maxContentTypeBytes),
      contentEncoding: '',
      namespace: keep(namespace, maxNamespaceBytes),
      serviceAccount: keep(serviceAccount, maxWriterBytes),
      pod: keep(pod, maxWriterBytes),
      origin: fill.origin,
      originVersion: keep(version, maxOriginVersionBytes),
      maxShare: fill.share,
      onReadable: growth.onReadable,
      begunAt: this.begunAt,
    });
    if (begun.kind !== 'upload') return undefined;
    growth.receive(begun.upload);
    this.#growth = growth;
    this.#holders += 1;
    return { upload: begun.upload, growth, maxBytes: Math.min(maxObjectBytes, begun.limit.maxBytes) };
  }

  async #receive(object: OriginObject, { upload, growth, maxBytes }: Begun): Promise<Received> {
    const { length, contentType, tag } = object;
    if (length !== undefined) this.#setState({ kind: 'growing', growth, length, contentType, tag });
    const received = await this.#readBody(object, upload, maxBytes);
    if (received === 'whole') return await this.#store(object, upload, growth);
    return received === 'alone' ? this.#leaveAlone(object, true) : received;
  }

  async #readBody(
    object: OriginObject,
    upload: Upload,
    maxBytes: number,
  ): Promise<'whole' | 'alone' | 'no-length' | 'too-large' | 'broken' | 'failed'> {
    const { length, body } = object;
    let pacedBytes = 0;
    const cut = () => body.destroy(new Error('the origin service is too slow'));
    let timer = setTimeout(cut, maxPacedMs);
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        this.#options.onBytes(chunk.length);
        pacedBytes += chunk.length;
        if (pacedBytes >= minPacedBytes) {
          clearTimeout(timer);
          timer = setTimeout(cut, maxPacedMs);
          pacedBytes = 0;
        }
        const received = upload.receivedBytes + chunk.length;
        if (length === undefined && received > object.maxBytes) return 'too-large';
        if (received > (length ?? maxUnknownBytes)) return length === undefined ? 'no-length' : 'broken';
        if (length === undefined && received > maxBytes) return 'no-length';
        const fault = await settle(upload.write(chunk), this.#options.writeMs);
        if (fault !== undefined) return this.#noteDisk(fault.error);
      }
      return length === undefined || upload.receivedBytes === length ? 'whole' : 'broken';
    } catch {
      return this.#stop.signal.aborted ? 'failed' : 'broken';
    } finally {
      clearTimeout(timer);
      body.destroy();
    }
  }

  async #store(object: OriginObject, upload: Upload, growth: Growth): Promise<Received> {
    const { store, writeMs } = this.#options;
    const { contentType, tag } = object;
    try {
      const written = await within(writeMs, store.finish(upload));
      const { length } = written.meta;
      growth.complete(length);
      if (object.length === undefined) this.#setState({ kind: 'growing', growth, length, contentType, tag });
      await within(writeMs, growth.place(written, this.#mayReplace));
      return 'stored';
    } catch (error) {
      // No PUT or DELETE finds this fill any more, so a late rename must not count.
      upload.isAbandoned = true;
      const isSuperseded = error instanceof ConditionError || error instanceof RevokedError;
      if (!isSuperseded) this.#noteDisk(error);
      // The readers get the object from memory and from its file.
      if (growth.isWhole) return isSuperseded ? 'not-kept' : 'alone';
      return object.length === undefined ? 'failed' : this.#leaveAlone(object, true);
    }
  }

  /** A newer PUT or DELETE of the key wins. An evicted version hides no newer one. */
  readonly #mayReplace: Condition = (current) => !this.isSuperseded && (current === undefined || current.tag === this.request.replaces);

  #noteDisk(error: unknown): 'alone' {
    if (!(error instanceof NoRoomError)) this.#options.health.note(error, 'write');
    return 'alone';
  }

  /** From now on, each request fetches the object alone. The first one gets the open body, unless a part of it is used already. */
  #leaveAlone(object: OriginObject, isUsed = false): Received {
    const { length, contentType, tag } = object;
    // A response to a client needs the length.
    if (length === undefined) return this.#drop(object, 'no-length');
    if (!isUsed) {
      this.#untaken = object;
      this.#holders += 1;
      // A request that waits for this fill takes the body before the next turn.
      setImmediate(() => {
        const untaken = this.take();
        untaken?.object.body.destroy();
        untaken?.leave();
      });
    }
    this.#setState({ kind: 'alone', length, contentType, tag });
    return 'alone';
  }

  #drop(object: OriginObject, result: FillResult): FillResult {
    object.body.destroy();
    return result;
  }

  #setState(state: FillState): void {
    // Requests may already wait for the promise of a state that is still `opening`.
    if (state.kind !== 'opening') this.#settled.resolve();
    else if (this.#state.kind !== 'opening') this.#settled = Promise.withResolvers();
    this.#state = state;
  }
}

async function settle(work: Promise<void> | undefined, limitMs: number): Promise<{ error: unknown } | undefined> {
  try {
    if (work !== undefined) await within(limitMs, work);
    return undefined;
  } catch (error) {
    return { error };
  }
}

/** Returns an empty string for a value that is too long for the trailer or not printable ASCII. */
function keep(value: string, maxBytes: number): string {
  return value.length <= maxBytes && /^[\x20-\x7e]*$/.test(value) ? value : '';
}
