/**
 * Refuses connections to addresses that a request of a client must never reach: this machine, the network of this node, and the metadata
 * service of a cloud (server-side request forgery). The address is checked when a connection is made, so a name that changes its address
 * does not help.
 */
import { lookup as systemLookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/** A connection that the guard refused. */
class RefusedAddressError extends Error {
  readonly code = 'ERR_REFUSED_ADDRESS';
}

const refused = new BlockList();
for (const [network, bits, family] of [
  ['0.0.0.0', 8, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  // Link-local, with the metadata services of most clouds.
  ['169.254.0.0', 16, 'ipv4'],
  // Metadata services of Alibaba Cloud and Azure.
  ['100.100.100.200', 32, 'ipv4'],
  ['168.63.129.16', 32, 'ipv4'],
  ['224.0.0.0', 3, 'ipv4'],
  ['::', 127, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
  ['ff00::', 8, 'ipv6'],
  // NAT64 of any of the addresses above.
  ['64:ff9b::', 96, 'ipv6'],
  // Metadata services of AWS and Google Cloud.
  ['fd00:ec2::254', 128, 'ipv6'],
  ['fd20:ce::254', 128, 'ipv6'],
] as const)
  refused.addSubnet(network, bits, family);

/** Throws RefusedAddressError for an address that is refused. A host name passes; `guardedLookup` checks its addresses. */
export function checkHost(host: string, allowedHosts: readonly string[]): void {
  const name = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (isIP(name) !== 0 && isRefused(name) && !allowedHosts.includes(name)) throw refusal(name, name);
}

/** For the `lookup` option of a connection. */
export function guardedLookup(allowedHosts: readonly string[]): LookupFunction {
  return (host, options, callback) => {
    systemLookup(host, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, []);
      const bad = addresses.find(({ address }) => isRefused(address));
      if (bad !== undefined && !allowedHosts.includes(host.toLowerCase())) return callback(refusal(host, bad.address), []);
      const [first] = addresses;
      if (options.all === true || first === undefined) return callback(null, addresses);
      callback(null, first.address, first.family);
    });
  };
}

function isRefused(address: string): boolean {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return refused.check(mapped, 'ipv4');
  return refused.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

function refusal(host: string, address: string): RefusedAddressError {
  return new RefusedAddressError(`${host} has the address ${address}, which is refused unless allowedHosts lists ${host}`);
}
