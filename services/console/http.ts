/** The status page: `/` and `/status.json`. It is read-only and loads nothing from other hosts. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from '../shared/log.ts';
import type { Route } from '../shared/metrics.ts';
import { type PageAssets, pageOf } from './page/page.ts';
import type { Status } from './page/status.ts';

interface StatusPagesOptions {
  /** Reads the current status. */
  readonly read: () => Promise<Status>;
  readonly log: Logger;
}

/** The page is built at most once in this time, for any number of readers. */
const pageAgeMs = 500;

export function statusPages({ read, log }: StatusPagesOptions): Readonly<Record<string, Route>> {
  const assets: PageAssets = { style: asset('page.css'), script: asset('page-live.js') };
  let made: { readonly at: number; readonly status: Promise<Status> } | undefined;
  const status = (): Promise<Status> => {
    if (made === undefined || performance.now() - made.at > pageAgeMs) made = { at: performance.now(), status: read() };
    return made.status;
  };
  const answer =
    (headers: Readonly<Record<string, string>>, body: (status: Status) => string): Route =>
    (_request, response) => {
      status()
        .then(body)
        .then(
          (text) => response.writeHead(200, { ...headers, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }).end(text),
          (error: unknown) => {
            log.error({ err: error }, 'the status page failed');
            response.writeHead(500, { 'content-type': 'text/plain' }).end('the status page failed\n');
          },
        );
    };
  const page = { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': contentPolicy(assets) };
  return {
    '/': answer(page, (now) => pageOf(now, assets)),
    '/status.json': answer({ 'content-type': 'application/json' }, (now) => JSON.stringify(now, withMaps, 2)),
  };
}

function asset(name: string): string {
  return readFileSync(path.join(import.meta.dirname, 'page', name), 'utf8');
}

/** Allows only the page's own style and script, by their hashes. The script may send requests only to the console. */
function contentPolicy({ style, script }: PageAssets): string {
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  return `default-src 'none'; style-src ${hash(style)}; script-src ${hash(script)}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
}

function withMaps(_name: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value;
}
