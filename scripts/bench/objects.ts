/** Writes object files like a shard, without a server, because a million PUTs would take longer than the bench. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { digestOf } from '../../services/cache/digest.ts';
import { prepareDirectory } from '../../services/cache/disk/directory.ts';
import { objectPath } from '../../services/cache/disk/file-name.ts';
import { encodeTrailer } from '../../services/cache/disk/trailer.ts';
import type { Key } from '../../services/shared/key.ts';

interface ManyObjects {
  readonly directory: string;
  readonly count: number;
  /** At most one block of 256 KiB. */
  readonly bodyBytes: number;
  /** Each key is the prefix and a number. */
  readonly prefix: string;
  readonly onProgress: (made: number) => void;
}

export async function createManyObjects({ directory, count, bodyBytes, prefix, onProgress }: ManyObjects): Promise<void> {
  const { secret } = await prepareDirectory(directory, '');
  const body = Buffer.alloc(bodyBytes, 'kura');
  const sums = Uint32Array.of(crc32(body));
  for (let at = 0; at < count; at += 1) {
    const key = `${prefix}${at}` as Key;
    const trailer = encodeTrailer(
      {
        key,
        namespace: 'bench',
        contentEncoding: '',
        serviceAccount: '',
        pod: '',
        origin: '',
        originVersion: '',
        contentType: '',
        length: bodyBytes,
        committedAt: BigInt(at + 1),
      },
      sums,
    );
    const fd = openSync(objectPath(directory, digestOf(secret, key)), 'w', 0o600);
    writeSync(fd, Buffer.concat([body, trailer]));
    closeSync(fd);
    if (at % 20_000 !== 0) continue;
    onProgress(at);
    await nextTurn();
  }
}
