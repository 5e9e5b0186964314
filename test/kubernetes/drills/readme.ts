import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import type { Drill } from '../support/drill.ts';

const readme = path.resolve(import.meta.dirname, '..', '..', '..', 'k8s', 'README.md');
/** What each command must print, by what stands behind `kubectl -n kura-system`; one that is not here fails the test. */
const expected: Readonly<Record<string, RegExp>> = {
  'rollout status statefulset/kura-cache': /^partitioned roll out complete: 4 new pods have been updated\.\.\.$/m,
  'rollout status deployment/kura-envoy': /^deployment "kura-envoy" successfully rolled out$/m,
  'get poddisruptionbudgets': /^kura-cache +N\/A +2 +2 [\s\S]*^kura-eds +N\/A +1 +1 [\s\S]*^kura-envoy +N\/A +20% +1 /m,
  'describe configmap kura-policy': /PolicyAccepted .* policy [0-9a-f]+ is in force\s*$/,
  'get endpointslices -l kubernetes.io/service-name=kura-cache': /^kura-cache-\S+ +IPv4 +7000 +10\.\S+,10\.\S+,10\.\S+/m,
};

/** What k8s/README.md says of a kura that is well. */
export function readmeDrills(opened: () => Drill): void {
  test.serial('the README’s commands to verify an installation print what it says', async (t) => {
    const [, block = ''] = /^## Verify\n\n```sh\n(.*?)^```$/ms.exec(await readFile(readme, 'utf8')) ?? [];
    const commands = block.trim().split('\n');
    t.is(commands.length, Object.keys(expected).length);
    for (const command of commands) {
      const pattern = expected[command.replace('kubectl -n kura-system ', '')];
      const stdout = await opened().kubectl.ok(...command.split(' ').slice(1));
      if (pattern === undefined) t.fail(`the README has a command that no test knows: ${command}`);
      else t.regex(stdout, pattern, command);
    }
  });
}
