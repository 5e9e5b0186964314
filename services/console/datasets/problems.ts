/** Every problem that the console returns under /datasets/: stable code, status and detail. `npm run generate` lists them. */
export const problems = {
  'bad-prefix': { status: 400, detail: 'A prefix is empty or ends with /, and is otherwise a key of at most 1,024 bytes.' },
  'bad-query': { status: 400, detail: 'A parameter of the query is unknown, repeated or malformed, or does not go with the others.' },
  'bad-cursor': { status: 400, detail: 'The cursor is not from a list of this prefix. Start the list again.' },
  'bad-caller': { status: 401, detail: 'x-kura-caller and x-kura-terms are missing, have expired, or are not signed by authz.' },
  'no-such-path': { status: 404, detail: 'Data sets are under /datasets/.' },
  'no-such-removal': { status: 404, detail: 'The id is not of a removal of this prefix.' },
  'method-not-allowed': { status: 405, detail: 'Data sets support GET and DELETE.' },
  busy: { status: 503, detail: 'The console answers 16 other requests for data sets.' },
  'shards-unknown': { status: 503, detail: 'The console has not read the list of shards yet.' },
  'too-many-removals': { status: 503, detail: 'The console repeats 256 removals whose shards are away. Wait until they return.' },
  failed: { status: 500, detail: 'The console failed. Its log has the reason.' },
} as const satisfies Record<string, { status: number; detail: string }>;

export type ProblemCode = keyof typeof problems;

export const retryAfterSeconds: Partial<Record<ProblemCode, number>> = { busy: 1, 'shards-unknown': 1, 'too-many-removals': 60 };
