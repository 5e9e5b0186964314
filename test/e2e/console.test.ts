/** The status page of the console in a real browser, beside a system that does something. */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
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
    system = await startLocalSystem({ args: ['--shard-bytes', '16Mi'], environment: { KURA_CONSOLE_WATCHED_INTERVAL: '500ms' } });
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-quic'] });
    url = `${(await system.local()).consoleUrl}/`;
    for (let round = 0; round < 3; round += 1) await makeTraffic();
  });
  test.after.always(async () => {
    await browser?.close();
    await system?.stop();
  });

  test.serial('without JavaScript the tables show shards, traffic, namespaces, Envoys, parts and policy', async (t) => {
    const page = await open(t, { javaScriptEnabled: false });
    // The first page does not wait long for the shares of the keys.
    const rows = await waitFor('the shares of the keys', async () => {
      await page.reload();
      const all = await page.locator('#shard-rows tr').allInnerTexts();
      return all.every((row) => row.includes('25.')) && all;
    });
    t.is(rows.length, 4);
    for (const [index, row] of rows.entries())
      t.regex(row, new RegExp(`^● healthy\\s+kura-cache-${index}/shard-0 127\\.0\\.0\\.1:\\d+\\s.*\\s25\\.\\d\\d`, 's'));
    t.true(
      rows.some((row) => /\d+ s$/.test(row)),
      'something was evicted, and had been idle for some seconds',
    );
    const namespaces = await page.locator('#namespace-rows tr').allInnerTexts();
    t.deepEqual(namespaces.map((row) => row.split(/\s/)[0]).sort(), ['nlp', 'vision']);
    const [envoy] = await page.locator('#envoy-rows tr').allInnerTexts();
    t.regex(envoy ?? '', /^● up to date\s+local .*\s+[0-9a-f]{16}\s+\d{4}-/s);
    t.regex(
      await page.locator('#policy-state').innerText(),
      /^● in force: document [0-9a-f]{12}, mode enforce, at 1 authz, since \d{4}-.*There is no next policy\./s,
    );
    t.true((await page.locator('#policy-text').textContent())?.includes('kind: AccessPolicy'));
    await waitFor('everything answers', async () => {
      await page.reload();
      return (await page.locator('#state').innerText()) === '● Everything is in order.';
    });
    const parts = await page.locator('#part-rows tr').allInnerTexts();
    t.deepEqual(
      parts.map((row) => row.split(/\s/)[0]),
      ['Envoy', 'authz', 'eds', 'console', 'shard'],
    );
    t.regex(parts[2] ?? '', /^eds\s+1\s+\d+\.\d+\.\d+\s+● answers\s+kura-eds-0/);
    t.false(await page.locator('#pause').isVisible(), 'a button that does nothing is not shown');
  });

  test.serial('what was requested before the first look counts, of Envoy and of the shards', async (t) => {
    const isCounted = await waitFor('both have the same requests', async () => {
      const { traffic } = (await (await fetch(`${url}status.json`)).json()) as { traffic: { hour: Record<string, number> } };
      const { hits = 0, misses = 0, puts = 0, responses = 0 } = traffic.hour;
      return hits > 0 && responses >= hits + misses + puts;
    });
    t.true(isCounted);
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
    t.is(await page.locator(':focus').innerText(), 'Resume');
    const paused = await page.locator('#at').innerText();
    const other = await open(t, {});
    await waitFor('another page is refreshed meanwhile', async () => (await other.locator('#at').innerText()) > paused);
    t.is(await page.locator('#at').innerText(), paused);
  });

  test.serial('all can be reached by keyboard, and axe finds nothing to complain of, light and dark, wide and narrow', async (t) => {
    const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [1280, 390]) {
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
    for (let press = 0; press < 45; press += 1) {
      await page.keyboard.press('Tab');
      met.add((await page.evaluate('document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent')) as string);
    }
    for (const name of [
      'Pause',
      'Shards',
      'Table of shards',
      'Table of namespaces',
      'Table of data sets',
      'Table of refusals',
      'Table of Envoys',
      'Table of parts',
      'The document in force',
      'As JSON',
    ])
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

  test.serial('on a small screen, the state is visible without scrolling', async (t) => {
    const page = await open(t, { viewport: { width: 390, height: 844 } });
    t.true(await page.evaluate('document.getElementById("state").getBoundingClientRect().bottom < innerHeight'));
    for (const id of ['traffic-rows', 'shard-rows', 'envoy-rows', 'namespace-rows', 'dataset-rows', 'refusal-rows', 'part-rows'])
      t.true(
        await page.evaluate(
          `(() => { const box = document.getElementById('${id}').closest('.scroll'); return box.scrollWidth <= box.clientWidth; })()`,
        ),
        id,
      );
  });

  test.serial('the largest data sets are shown', async (t) => {
    const page = await open(t, {});
    const rows = await waitFor('the data sets', async () => {
      const texts = await page.locator('#dataset-rows tr').allInnerTexts();
      return texts.length === 2 && texts;
    });
    t.deepEqual(rows.map((row) => row.split(/\s/)[0]).sort(), ['nlp/set/', 'vision/set/']);
    for (const row of rows) t.regex(row, /MiB\s+\d+\.\d\s%\s+\d+\s+\d+ s/);
  });

  test.serial('refusals are shown by namespace', async (t) => {
    await system.call({ as: 'vision/trainer', path: '/objects/nlp/other' });
    const page = await open(t, {});
    const row = await waitFor('the refusal', async () => {
      const text = await page.locator('#refusal-rows tr').first().innerText();
      return /^vision\s+1\s/.test(text) && text;
    });
    t.regex(row, /^vision\s+1\s/);
  });

  test.serial('a rejected policy is in the first line, and a return to the one before ends that', async (t) => {
    const page = await open(t, {});
    const file = (await system.local()).policy as string;
    const before = await readFile(file, 'utf8');
    await writeFile(file, 'kind: Nothing\n');
    try {
      await waitFor('the finding', async () =>
        /^✕ The policy is rejected: .*stays in force\.$/.test(await page.locator('#state').innerText()),
      );
    } finally {
      await writeFile(file, before);
    }
    await waitFor('the end of it', async () => (await page.locator('#state').innerText()) === '● Everything is in order.');
    t.regex(await page.locator('#policy-state').innerText(), /^● in force/);
  });

  test.serial('a shard that hangs, and the console itself when it is gone, are reported; the history stays', async (t) => {
    const page = await open(t, {});
    const before = await hits(page);
    await system.signal('kura-cache-2', 'SIGSTOP');
    try {
      await waitFor('the shard gives no answer', async () =>
        /no answer/.test((await page.locator('#shard-rows tr').nth(2).innerText()) ?? ''),
      );
      t.regex(await page.locator('#state').innerText(), /^✕ 1 shard does not answer: kura-cache-2\/shard-0\.$/m);
    } finally {
      await system.signal('kura-cache-2', 'SIGCONT');
    }
    await waitFor('it is back', async () => /healthy\s/.test(await page.locator('#shard-rows tr').nth(2).innerText()));
    await system.signal('console', 'SIGSTOP');
    try {
      await waitFor(
        'the page says that it is old',
        async () => (await page.locator('#live').innerText()) === 'The console does not answer: these numbers are old.',
      );
      t.is(await page.locator('#shard-rows tr').count(), 4, 'what was known stays');
    } finally {
      await system.signal('console', 'SIGCONT');
    }
    const pid = await system.signal('console', 'SIGTERM');
    await system.restarted('console', pid);
    await waitFor('the page is up to date again', async () => (await page.locator('#live').innerText()) === '');
    t.true((await hits(page)) >= before && before > 0);
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
  const cell = await page.locator('#traffic-rows tr').nth(2).locator('td').nth(4).innerText();
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
