/**
 * `npm run envoy:authz`: writes k8s/overlays/authz-deployment/bootstrap.yaml, which is envoy/bootstrap.yaml with authz behind a Service instead of beside Envoy. To be run
 * after an edit of the latter. `--check` writes nothing and fails when the file is another.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseDocument, type Scalar } from 'yaml';
import { namedEntry } from '../services/local/bootstrap.ts';

const root = path.resolve(import.meta.dirname, '..');
const target = path.join(root, 'k8s', 'overlays', 'authz-deployment', 'bootstrap.yaml');
const head = '# Written by `npm run envoy:authz` from envoy/bootstrap.yaml: edit that.\n';

const document = parseDocument(readFileSync(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8'));
const authz = namedEntry(document, ['static_resources', 'clusters'], 'authz');
(authz.get('name', true) as Scalar).comment = ' behind a headless Service, each replica in turn';
authz.set('type', 'STRICT_DNS');
const address = { socket_address: { address: 'kura-authz', port_value: 18001 } };
authz.setIn(['load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address'], document.createNode(address));
// A replica that is gone costs one request, and none when it has ended in good order: DNS is asked again only every 5 s.
authz.set(
  'health_checks',
  document.createNode([{ timeout: '0.5s', interval: '1s', unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {} }]),
);
authz.set('common_lb_config', document.createNode({ healthy_panic_threshold: { value: 0 } }));
authz.set(
  'outlier_detection',
  document.createNode({
    split_external_local_origin_errors: true,
    consecutive_local_origin_failure: 1,
    enforcing_consecutive_local_origin_failure: 100,
    base_ejection_time: '5s',
    max_ejection_percent: 50,
  }),
);
const wanted = head + document.toString({ lineWidth: 0 });

if (!process.argv.includes('--check')) writeFileSync(target, wanted);
else if (!existsSync(target) || readFileSync(target, 'utf8') !== wanted) {
  console.error(`${path.relative(root, target)} is not what \`npm run envoy:authz\` writes`);
  process.exitCode = 1;
}
