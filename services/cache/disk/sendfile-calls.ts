/** sendfile(2) and its companions, called through `node:ffi`. */
import type { Logger } from '../../shared/log.ts';

/** Each call returns -1 on an error. The stream of the socket reports the error, because its next write has the same error. */
export interface SendfileCalls {
  /** Whether every page of bytes [from, to) is in the page cache, so that sendFile does not wait for the disk. */
  isCached(file: number, from: number, to: number): boolean;
  /** Sends the head of a response. The system keeps it for a moment, for one packet with the bytes that follow. */
  sendHead(socket: number, head: Buffer): number;
  sendFile(socket: number, file: number, from: number, bytes: number): number;
}

/** MSG_NOSIGNAL, MSG_MORE and MSG_DONTWAIT of Linux. */
const headFlags = 0x4000 | 0x8000 | 0x40;
/** Its number on every architecture. The C library has no function for it. */
const cachestatNumber = 451n;

/** Returns undefined if this platform or this Node does not have the calls. Prints the warning of Node about `node:ffi`. */
export function openSendfile(log: Logger): SendfileCalls | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    return bindCalls();
  } catch (error) {
    log.info({ reason: (error as Error).message }, 'sendfile is not available; direct transfers use buffers');
    return undefined;
  }
}

function bindCalls(): SendfileCalls {
  const { dlopen, getRawPointer } = process.getBuiltinModule('node:ffi');
  const { functions } = dlopen(null, {
    sendfile: { arguments: ['int32', 'int32', 'pointer', 'uint64'], return: 'int64' },
    send: { arguments: ['int32', 'buffer', 'uint64', 'int32'], return: 'int64' },
    syscall: { arguments: ['int64', 'int64', 'pointer', 'pointer', 'int64'], return: 'int64' },
    getpagesize: { arguments: [], return: 'int32' },
  });
  const pageBytes = functions.getpagesize();
  // An ArrayBuffer never moves. A small typed array can.
  const [offset, range, counts] = [new ArrayBuffer(8), new ArrayBuffer(16), new ArrayBuffer(40)];
  const [offsetAt, rangeAt, countsAt] = [getRawPointer(offset), getRawPointer(range), getRawPointer(counts)];
  const [offsetView, rangeView, countsView] = [new BigInt64Array(offset), new BigUint64Array(range), new BigUint64Array(counts)];
  return {
    // Linux has cachestat(2) since 6.5. Without it, or in a sandbox that rejects it, no page counts as cached.
    isCached: (file, from, to) => {
      rangeView[0] = BigInt(from);
      rangeView[1] = BigInt(to - from);
      if (functions.syscall(cachestatNumber, BigInt(file), rangeAt, countsAt, 0n) !== 0n) return false;
      return Number(countsView[0]) === Math.floor((to - 1) / pageBytes) - Math.floor(from / pageBytes) + 1;
    },
    sendHead: (socket, head) => Number(functions.send(socket, head, BigInt(head.length), headFlags)),
    sendFile: (socket, file, from, bytes) => {
      offsetView[0] = BigInt(from);
      return Number(functions.sendfile(socket, file, offsetAt, BigInt(bytes)));
    },
  };
}
