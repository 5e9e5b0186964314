/**
 * `npm run test:compatibility -- COMMIT`: runs this checkout and the one of COMMIT against each other, as a rollout mixes them. It
 * replaces one part after the other, forward and back, and stores and reads objects after each step. The other checkout is extracted
 * below .tools/compatibility, with its own setup.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Checkout, extractCheckout, loadCheckout } from './compatibility/checkout.ts';
import { type Part, parts, startMixedSystem } from './compatibility/mixed-system.ts';
import { ObjectChecks } from './compatibility/object-checks.ts';

/** The order of docs/operate.md, and its reverse: a rollout of all manifests at once can finish its parts in any order. */
const orders: readonly (readonly Part[])[] = [parts, parts.toReversed()];

const [commit] = process.argv.slice(2);
if (commit === undefined) {
  console.error('usage: npm run test:compatibility -- COMMIT');
  process.exit(2);
}
const root = path.resolve(import.meta.dirname, '..');
const before = await loadCheckout(extractCheckout(root, commit), commit);
const now = await loadCheckout(root, 'this checkout');
try {
  for (const [from, to] of [
    [before, now],
    [now, before],
  ] as const)
    for (const order of orders) await replaceEachPart(from, to, order);
  console.log('compatible: every mixture stored and read every object');
} catch (error) {
  console.error(`not compatible: ${(error as Error).message}`);
  process.exitCode = 1;
}

async function replaceEachPart(from: Checkout, to: Checkout, order: readonly Part[]): Promise<void> {
  console.log(`\nfrom ${from.name} to ${to.name}, in the order ${order.join(', ')}`);
  const stateDirectory = await mkdtemp(path.join(tmpdir(), 'kura-compatibility-'));
  const system = await startMixedSystem({ stateDirectory, checkout: from, root });
  try {
    const checks = new ObjectChecks(system);
    console.log(`  all parts of ${from.name}: ${await checks.run('start')}`);
    for (const part of order) {
      await system.replace(part, to);
      console.log(`  ${part.padEnd(6)} of ${to.name}: ${await checks.run(part)}`);
    }
  } catch (error) {
    console.error(system.lines.join(''));
    throw error;
  } finally {
    await system.stop();
    await rm(stateDirectory, { recursive: true, force: true });
  }
}
