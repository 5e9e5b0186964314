import test from 'ava';
import { drain } from '../../../services/cache/http/receive-put.ts';

const mebibyte = Buffer.alloc(2 ** 20);

async function* bodyOf(mebibytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < mebibytes; at += 1) yield mebibyte;
}

test('a refused body of up to 1 GiB is read to its end', async (t) => {
  t.true(await drain(bodyOf(0)));
  t.true(await drain(bodyOf(1024)));
});

test('a longer one is not, and one that stalls is not waited for', async (t) => {
  t.false(await drain(bodyOf(1025)));
  const stalled = async function* (): AsyncGenerator<Buffer> {
    yield mebibyte;
    await new Promise(() => undefined);
  };
  t.false(await drain(stalled()));
});
