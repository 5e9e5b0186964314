/** Pure: the kustomize component for one Deployment and one autoscaler of Envoy for each zone. */
import { toYaml } from './k8s-disks.ts';

const zoneLabel = 'kura/zone';
const replicas = { min: 2, max: 10 };

/** File name → content. Throws an Error for a zone that is no name, or for a duplicate. */
export function zonesComponent(zones: readonly string[]): Record<string, string> {
  const wrong = zones.find((zone) => !/^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$/.test(zone));
  if (wrong !== undefined) throw new Error(`the zone "${wrong}" is no name; it must have at most 42 lower-case letters, digits and -`);
  const twice = zones.find((zone, index) => zones.indexOf(zone) !== index);
  if (twice !== undefined) throw new Error(`the zone ${twice} is listed twice; list each zone once`);
  if (zones.length === 0) throw new Error('no zone is listed; list the values of the label topology.kubernetes.io/zone');
  const written = `Written by \`npm run k8s:zones\` for ${zones.join(', ')}.`;
  return {
    'kustomization.yaml': `# One Deployment and one autoscaler of Envoy for each zone. PreferSameZone sends the traffic of a zone to the Envoys of
# this zone, and one autoscaler for all zones would not see that a single one is full.
# ${written}
${toYaml(remover())}`,
    'copies/kustomization.yaml': `# Copies the Deployment and the autoscaler for each zone. ${written}
${toYaml(copier(zones))}`,
    'copies/zones.yaml': `# What differs between the zones. ${written}\n${zones.flatMap(resources).map(toYaml).join('---\n')}`,
  };
}

/** Runs after the copies are made. */
function remover(): object {
  const removed = [
    { apiVersion: 'apps/v1', kind: 'Deployment' },
    { apiVersion: 'autoscaling/v2', kind: 'HorizontalPodAutoscaler' },
  ].map((type) => ({ patch: toYaml({ $patch: 'delete', ...type, metadata: { name: 'kura-envoy' } }).trimEnd() }));
  return { ...component, components: ['copies'], patches: removed };
}

function copier(zones: readonly string[]): object {
  const copies = (kind: string, fieldPath: string): object => ({
    source: { kind, name: 'kura-envoy', fieldPath },
    targets: [{ select: { kind, labelSelector: zoneLabel }, fieldPaths: [fieldPath], options: { create: true } }],
  });
  const own = (zone: string): object => ({
    source: { kind: 'Deployment', name: `kura-envoy-${zone}`, fieldPath: `spec.selector.matchLabels.${zoneLabel}` },
    targets: [
      {
        select: { kind: 'Deployment', name: `kura-envoy-${zone}` },
        fieldPaths: [
          `metadata.labels.${zoneLabel}`,
          `spec.template.metadata.labels.${zoneLabel}`,
          String.raw`spec.template.spec.nodeSelector.topology\.kubernetes\.io/zone`,
        ],
        options: { create: true },
      },
    ],
  });
  return {
    ...component,
    labels: [{ pairs: { 'app.kubernetes.io/part-of': 'kura' } }],
    resources: ['zones.yaml'],
    replacements: [
      copies('Deployment', 'spec.strategy'),
      copies('Deployment', 'spec.template'),
      copies('HorizontalPodAutoscaler', 'spec.metrics'),
      copies('HorizontalPodAutoscaler', 'spec.behavior'),
      // The last one: it removes the labels by which the others find the copies.
      copies('Deployment', 'metadata.labels'),
      ...zones.map(own),
    ],
  };
}

function resources(zone: string): object[] {
  const metadata = { name: `kura-envoy-${zone}`, labels: { [zoneLabel]: zone } };
  const matchLabels = { 'app.kubernetes.io/name': 'kura-envoy', [zoneLabel]: zone };
  const scaleTargetRef = { apiVersion: 'apps/v1', kind: 'Deployment', name: metadata.name };
  return [
    { apiVersion: 'apps/v1', kind: 'Deployment', metadata, spec: { replicas: replicas.min, selector: { matchLabels } } },
    {
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata,
      spec: { scaleTargetRef, minReplicas: replicas.min, maxReplicas: replicas.max },
    },
  ];
}

const component = { apiVersion: 'kustomize.config.k8s.io/v1alpha1', kind: 'Component' };
