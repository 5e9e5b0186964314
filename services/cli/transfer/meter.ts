import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** Forwards a stream and reports how many bytes have passed. An error of the source becomes an error of the result. */
export function meter(source: Readable, report: (bytes: number) => void): Readable {
  let bytes = 0;
  const passing = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      report(bytes);
      done(null, chunk);
    },
  });
  // The reader of the result receives the error too.
  pipeline(source, passing).catch(() => undefined);
  return passing;
}
