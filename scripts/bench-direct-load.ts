/** A load generator that follows redirects, which wrk does not: clients with kept connections, whose own CPU is not counted. */
import { connect, type Socket } from 'node:net';

export interface FollowingLoad {
  /** `http://host:port`, and a path for each request. */
  readonly url: string;
  readonly path: string;
  readonly tokens: readonly string[];
  readonly clients: number;
  readonly seconds: number;
}

/** Runs for so long, and resolves with the number of bodies that came whole. Rejects when an answer is anything but a 200 with that length, or a redirect to one. */
export async function follow({ url, path, tokens, clients, seconds }: FollowingLoad, bytes: number): Promise<number> {
  const deadline = performance.now() + seconds * 1000;
  let bodies = 0;
  const client = async (number: number): Promise<void> => {
    const connections = new Map<string, Connection>();
    const get = async (origin: string, target: string, fields: string): Promise<Reply> => {
      const connection = connections.get(origin) ?? new Connection(origin);
      connections.set(origin, connection);
      return await connection.ask(`GET ${target} HTTP/1.1\r\nHost: kura\r\n${fields}\r\n`);
    };
    try {
      for (let at = number; performance.now() < deadline; at += clients) {
        let reply = await get(url, path, `Authorization: Bearer ${tokens[at % tokens.length]}\r\n`);
        if (reply.status === 307) {
          const [, origin, target] = /^(http:\/\/[^/]+)(.*)$/.exec(reply.location ?? '') as unknown as [string, string, string];
          reply = await get(origin, target, '');
        }
        if (reply.status !== 200 || reply.bytes !== bytes) throw new Error(`GET ${path} answered ${reply.status}, ${reply.bytes} bytes`);
        bodies += 1;
      }
    } finally {
      for (const connection of connections.values()) connection.close();
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
  return bodies;
}

interface Reply {
  readonly status: number;
  readonly bytes: number;
  readonly location: string | undefined;
}

/** Reads into one buffer again and again: what a body is does not matter here. */
class Connection {
  readonly #socket: Socket;
  #head = '';
  #reply: Reply | undefined;
  #leftBytes = 0;
  #waiting: PromiseWithResolvers<Reply> | undefined;

  constructor(origin: string) {
    const { hostname: host, port } = new URL(origin);
    const onread = { buffer: Buffer.allocUnsafe(256 * 1024), callback: this.#onRead };
    this.#socket = connect({ host, port: Number(port), noDelay: true, onread });
    const fail = () => this.#waiting?.reject(new Error(`the connection to ${origin} broke`));
    this.#socket.on('error', fail).on('close', fail);
  }

  ask(head: string): Promise<Reply> {
    this.#waiting = Promise.withResolvers();
    this.#socket.write(head);
    return this.#waiting.promise;
  }

  close(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  readonly #onRead = (length: number, buffer: Uint8Array): boolean => {
    if (this.#reply === undefined) this.#readHead(Buffer.from(buffer.buffer, buffer.byteOffset, length).toString('latin1'));
    else this.#leftBytes -= length;
    if (this.#reply === undefined || this.#leftBytes > 0) return true;
    const reply = this.#reply;
    this.#reply = undefined;
    this.#waiting?.resolve(reply);
    return true;
  };

  #readHead(text: string): void {
    this.#head += text;
    const end = this.#head.indexOf('\r\n\r\n');
    if (end === -1) return;
    const head = this.#head.slice(0, end);
    const bytes = Number(/^content-length: (\d+)$/im.exec(head)?.[1]);
    this.#reply = { status: Number(head.slice(9, 12)), bytes, location: /^location: (.*)$/im.exec(head)?.[1] };
    this.#leftBytes = bytes - (this.#head.length - end - 4);
    this.#head = '';
  }
}
