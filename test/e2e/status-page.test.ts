/** The status page of eds in a real browser, beside a system that does something. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { findPeer } from '../support/peers.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
const executablePath = findPeer('chromium', { debianPackage: 'chromium' });
/** Where screenshots for people are put, if anywhere. */
const pictures = process.env.KURA_SCREENSHOTS;
let system: LocalSystem;
let browser: Browser;
let url: string;

if (executablePath !== undefined) {
  test.serial.before(async (t) => {
    t.timeout(3 * 60_000);
    system = await startLocalSystem({ args: ['--shard-bytes', '16Mi'], environment: { KURA_EDS_STATUS_INTERVAL: '500ms' } });
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-quic'] });
    url = new URL('/', (await system.local()).eds.metricsUrl).href;
    for (let round = 0; round < 3; round += 1) await makeTraffic();
  });
  test.after.always(async () => {
    await browser?.close();
    await system?.stop();
  });

  test.serial('without JavaScript the tables tell of shards, traffic, namespaces, Envoys and policy', async (t) => {
    const page = await open(t, { javaScriptEnabled: false });
    const rows = await page.locator('#shard-rows tr').allInnerTexts();
    t.is(rows.length, 4);
    for (const [index, row] of rows.entries())
      t.regex(row, new RegExp(`^kura-cache-${index}/shard-0 .*local\\s+● healthy\\s+25\\.\\d\\d`, 's'));
    t.true(
      rows.some((row) => /\d+ s$/.test(row)),
      'something was evicted, and had been idle for some seconds',
    );
    const namespaces = await page.locator('#namespace-rows tr').allInnerTexts();
    t.deepEqual(namespaces.map((row) => row.split(/\s/)[0]).sort(), ['nlp', 'vision']);
    const [envoy] = await page.locator('#envoy-rows tr').allInnerTexts();
    t.regex(envoy ?? '', /^local .*● up to date\s+[0-9a-f]{16}\s+\d{4}-/s);
    t.regex(
      await page.locator('#policy-state').innerText(),
      /^Document [0-9a-f]{12}, last changed \d{4}-.*● in force, as authz reported at \d{4}-/s,
    );
    t.true((await page.locator('#policy-text').textContent())?.includes('kind: AccessPolicy'));
    t.false(await page.locator('#pause').isVisible(), 'a button that does nothing is not shown');
  });

  test.serial('the hour has what was asked for, in the table and as bars', async (t) => {
    const page = await open(t, {});
    const before = await hits(page);
    await makeTraffic();
    const after = await waitFor('the page has the new requests, by itself', async () => {
      const now = await hits(page);
      return now > before && now;
    });
    t.true(after - before >= 60, `${after - before}`);
    t.true((await page.locator('#charts rect.hits').count()) > 0);
    t.regex(
      (await page.locator('#charts svg[role=img]').first().getAttribute('aria-label')) ?? '',
      /^Requests a minute over the last hour: .*hits, .*misses/,
    );
  });

  test.serial('a refresh leaves focus, open parts and scroll position; Pause holds it, by keyboard', async (t) => {
    const page = await open(t, {});
    await page.locator('summary').click();
    await page.locator('#pause').focus();
    const at = await page.locator('#at').innerText();
    await waitFor('a refresh', async () => (await page.locator('#at').innerText()) !== at);
    t.true(await page.locator('details').evaluate((element) => (element as unknown as { open: boolean }).open));
    t.is(await page.locator(':focus').innerText(), 'Pause');
    await page.keyboard.press('Enter');
    t.is(await page.locator('#pause').getAttribute('aria-pressed'), 'true');
    t.is(await page.locator(':focus').innerText(), 'Go on');
    const paused = await page.locator('#at').innerText();
    const other = await open(t, {});
    await waitFor('another page is refreshed meanwhile', async () => (await other.locator('#at').innerText()) > paused);
    t.is(await page.locator('#at').innerText(), paused);
  });

  test.serial('all can be reached by keyboard, and axe finds nothing to complain of, light and dark, wide and narrow', async (t) => {
    const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [1280, 400]) {
        const page = await open(t, { colorScheme, viewport: { width, height: 900 } });
        await page.locator('summary').click();
        await page.evaluate(axe);
        const { violations } = (await page.evaluate('axe.run()')) as { violations: { id: string; nodes: { html: string }[] }[] };
        t.deepEqual(
          violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`),
          [],
          `${colorScheme} ${width}`,
        );
        t.true(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), 'no sideways scrolling of the page itself');
        if (pictures !== undefined)
          await page.screenshot({ path: path.join(pictures, `status-${colorScheme}-${width}.png`), fullPage: true });
      }
    }
    const page = await open(t, {});
    const met = new Set<string>();
    for (let press = 0; press < 25; press += 1) {
      await page.keyboard.press('Tab');
      met.add((await page.evaluate('document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent')) as string);
    }
    for (const name of ['Pause', 'Shards', 'Table of shards', 'Table of namespaces', 'Table of Envoys', 'The document', 'As JSON'])
      t.true(met.has(name), name);
  });

  test.serial('nothing is loaded from elsewhere, and the page keeps to its own content policy', async (t) => {
    const context = await browser.newContext();
    t.teardown(() => context.close());
    const page = await context.newPage();
    const asked: string[] = [];
    const complaints: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    const response = await page.goto(url);
    t.regex(response?.headers()['content-security-policy'] ?? '', /^default-src 'none'/);
    await waitFor('a refresh', () => asked.filter((each) => each === url).length > 1);
    t.deepEqual(
      [...new Set(asked)].filter((each) => !each.startsWith(url) && !each.startsWith('data:')),
      [],
    );
    t.deepEqual(complaints, []);
    t.is((await fetch(url, { method: 'POST' })).status, 405);
    const json = (await (await fetch(`${url}status.json`)).json()) as { shards: { numbers: { namespaces: Record<string, unknown> } }[] };
    t.deepEqual(Object.keys(json.shards[0]?.numbers.namespaces ?? {}).sort(), ['nlp', 'vision']);
  });

  test.serial('a shard that hangs, and eds itself when it is gone, are told', async (t) => {
    const page = await open(t, {});
    await system.signal('kura-cache-2', 'SIGSTOP');
    try {
      await waitFor('the shard gives no answer', async () =>
        /no answer/.test((await page.locator('#shard-rows tr').nth(2).innerText()) ?? ''),
      );
      t.is((await fetch(url.replace(/\/$/, '/livez'))).status, 200);
    } finally {
      await system.signal('kura-cache-2', 'SIGCONT');
    }
    await waitFor('it is back', async () => /healthy\s/.test(await page.locator('#shard-rows tr').nth(2).innerText()));
    await system.signal('eds', 'SIGKILL');
    await waitFor(
      'the page says that it is old',
      async () => (await page.locator('#live').innerText()) === 'eds does not answer: these numbers are old.',
    );
    t.is(await page.locator('#shard-rows tr').count(), 4, 'what was known stays');
    const eds = await waitFor('eds is back', async () => {
      const { metricsUrl } = (await system.local()).eds;
      return new URL('/', metricsUrl).href !== url && metricsUrl;
    });
    await page.goto(new URL('/', eds).href);
    // It reconnected with what it had, and was sent nothing.
    await waitFor('Envoy is back and up to date', async () =>
      /up to date\s+[0-9a-f]{16}/.test(await page.locator('#envoy-rows tr').first().innerText()),
    );
  });
}

async function open(t: ExecutionContext, options: BrowserContextOptions): Promise<Page> {
  const context = await browser.newContext(options);
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

/** Of the last hour. */
async function hits(page: Page): Promise<number> {
  const cell = await page.locator('#traffic-rows tr').nth(2).locator('td').first().innerText();
  return Number(cell.replace(/\s/g, ''));
}

async function makeTraffic(): Promise<void> {
  const body = randomBytes(200_000);
  for (const [as, count] of [
    ['vision/trainer', 70],
    ['nlp/trainer', 40],
  ] as const) {
    const prefix = as.split('/')[0];
    for (let index = 0; index < count; index += 1) {
      const key = `/objects/${prefix}/set/${Math.floor(index * 1.7)}-${body.readUInt32LE(0)}`;
      await system.call({ as, path: key });
      await system.call({ as, method: 'PUT', path: key, body, headers: { 'content-length': body.length } });
      await system.call({ as, path: key });
    }
  }
}
