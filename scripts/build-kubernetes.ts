/** `npm run build:kubernetes`: builds the control plane that `npm run test:kubernetes` needs, where it is not there yet; about 5 minutes. */
import { buildPlane } from './kubernetes-tools.ts';

const problem = buildPlane();
if (problem !== undefined) {
  console.error(`build:kubernetes ${problem}`);
  process.exitCode = 1;
}
