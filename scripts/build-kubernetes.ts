/** `npm run build:kubernetes`: builds the control plane of `npm run test:kubernetes` unless it exists. Takes about 5 minutes. */
import { buildPlane } from './kubernetes-tools.ts';

const problem = buildPlane();
if (problem !== undefined) {
  console.error(`build:kubernetes ${problem}`);
  process.exitCode = 1;
}
