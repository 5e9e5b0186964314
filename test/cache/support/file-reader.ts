/** The thread for cold reads, where the Node of the test has `node:ffi`. */
import test, { type ExecutionContext } from 'ava';
import { FileReader } from '../../../services/cache/disk/file-reader.ts';

const hasFfi = process.platform === 'linux' && process.getBuiltinModule('node:ffi') !== undefined;

/** A test that needs the thread. */
export const threaded = hasFfi ? test : test.skip;

/** The thread of a shard, or undefined without `node:ffi`. It ends with the test. */
export function startFileReader(t: ExecutionContext): FileReader | undefined {
  if (!hasFfi) return undefined;
  const reader = new FileReader({ onFail: (error) => t.fail(String(error)) });
  t.teardown(() => reader.close());
  return reader;
}
