/** Pure: what the real API fills in by itself, where kura or its users look at it. */
import { isFields, type StoredObject } from './object.ts';
import type { Resource } from './resources.ts';

/** Since 1.35 a Pod carries these labels of its Node. */
const topologyLabels = ['topology.kubernetes.io/zone', 'topology.kubernetes.io/region'];

/** The fields that an object has when its client leaves them out, at its creation and at every replacement. */
export function withDefaults({ plural }: Resource, object: StoredObject): StoredObject {
  switch (plural) {
    case 'namespaces': {
      const labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name };
      return { ...object, metadata: { ...object.metadata, labels }, spec: { ...object.spec, finalizers: ['kubernetes'] } };
    }
    case 'pods':
      return { ...object, spec: { restartPolicy: 'Always', terminationGracePeriodSeconds: 30, ...object.spec } };
    case 'services': {
      const { clusterIP } = object.spec ?? {};
      const addresses = clusterIP === undefined ? {} : { clusterIPs: [clusterIP] };
      const ports = withProtocol(object.spec?.ports).map((port) => ({ ...port, targetPort: port.targetPort ?? port.port }));
      return { ...object, spec: { type: 'ClusterIP', sessionAffinity: 'None', ...addresses, ...object.spec, ports } };
    }
    case 'endpointslices':
      return object.ports === undefined || object.ports === null ? object : { ...object, ports: withProtocol(object.ports) };
    case 'events': {
      const nothing = { source: {}, firstTimestamp: null, lastTimestamp: null, eventTime: null };
      return { ...nothing, reportingComponent: '', reportingInstance: '', ...object };
    }
    default:
      return object;
  }
}

/** A new object: with the status that its kind begins with, whatever the client sent, and for a Pod what it has of its Node. */
export function asCreated({ plural }: Resource, object: StoredObject, node: StoredObject | undefined): StoredObject {
  switch (plural) {
    case 'namespaces':
      return { ...object, status: { phase: 'Active' } };
    case 'pods':
      return onNode({ ...object, status: { phase: 'Pending' } }, node);
    case 'services':
      return { ...object, status: { loadBalancer: {} } };
    default:
      return object;
  }
}

/** A Pod as it is on its Node; the Node is undefined where nobody knows it. */
export function onNode(pod: StoredObject, node: StoredObject | undefined): StoredObject {
  const topology = Object.entries(node?.metadata.labels ?? {}).filter(([label]) => topologyLabels.includes(label));
  if (topology.length === 0) return pod;
  return { ...pod, metadata: { ...pod.metadata, labels: { ...pod.metadata.labels, ...Object.fromEntries(topology) } } };
}

function withProtocol(ports: unknown): Record<string, unknown>[] {
  return Array.isArray(ports) ? ports.filter(isFields).map((port) => ({ protocol: 'TCP', ...port })) : [];
}
