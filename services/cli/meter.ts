import { pipeline, type Readable, Transform } from 'node:stream';

/** Passes a stream on and tells how many bytes have come through; an error of the source becomes one of the result. */
export function meter(source: Readable, tell: (bytes: number) => void): Readable {
  let bytes = 0;
  const passing = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      tell(bytes);
      done(null, chunk);
    },
  });
  // The error is the result's too: whoever reads it is told.
  pipeline(source, passing, () => undefined);
  return passing;
}
