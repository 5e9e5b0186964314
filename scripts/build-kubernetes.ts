/** `npm run build:kubernetes`: builds the control plane for `npm run test:kubernetes`, unless it exists. This takes about 5 minutes. */
import { buildPlane } from './kubernetes-tools.ts';

const problem = buildPlane();
if (problem !== undefined) {
  console.error(`build:kubernetes ${problem}`);
  process.exitCode = 1;
}
