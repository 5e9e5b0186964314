/** Settings of a service: `KURA_<SERVICE>_…` environment variables. Each is described once, and all are checked at the start. */

import { isIP } from 'node:net';
import { formatQuantity, parseDuration, parseQuantity } from './quantity.ts';

/** One setting: how to parse its text, its default, and its description (one sentence). */
interface Setting<T> {
  readonly doc: string;
  /** Text that is used when the variable is unset. Without it the variable is required, unless the setting is `optional`. */
  readonly fallback: string | undefined;
  readonly optional: boolean;
  /** Throws an Error whose message completes “NAME=value …”, such as “is not a whole number”. */
  readonly parse: (text: string) => T;
}

type SettingTable = Readonly<Record<string, Setting<unknown>>>;
export type Settings<S extends SettingTable> = { readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never };

/** The address of a server. With port 0 the system chooses the port. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** An invalid environment. The message is one line that names the variable. */
export class SettingsError extends Error {
  readonly code = 'SETTINGS';
}

/**
 * Reads the settings of one service. `prefix` is such as `KURA_CACHE_`; the field `maxBytes` is read from `KURA_CACHE_MAX_BYTES`. Throws
 * SettingsError for a missing or invalid value, and for an unknown variable with the prefix. Ignores the service links of Kubernetes.
 */
export function readSettings<S extends SettingTable>(
  prefix: string,
  table: S,
  environment: Readonly<Record<string, string | undefined>>,
): Settings<S> {
  const names = new Map(Object.keys(table).map((field) => [settingName(prefix, field), field]));
  for (const name of Object.keys(environment)) {
    if (name.startsWith(prefix) && !names.has(name) && !isServiceLink(name)) {
      throw new SettingsError(`${name} is not a setting; known are ${[...names.keys()].join(', ')}`);
    }
  }
  const values: Record<string, unknown> = {};
  for (const [name, field] of names) {
    const setting = table[field] as Setting<unknown>;
    const text = environment[name] ?? setting.fallback;
    if (text === undefined) {
      if (!setting.optional) throw new SettingsError(`${name} must be set: ${setting.doc}`);
      values[field] = undefined;
      continue;
    }
    try {
      values[field] = setting.parse(text);
    } catch (error) {
      throw new SettingsError(`${name}=${JSON.stringify(text)} ${(error as Error).message}`, { cause: error });
    }
  }
  return values as Settings<S>;
}

/** `maxBytes` under `KURA_CACHE_` is `KURA_CACHE_MAX_BYTES`. */
export function settingName(prefix: string, field: string): string {
  return prefix + field.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

export function optional<T>(setting: Setting<T>): Setting<T | undefined> {
  return { ...setting, optional: true };
}

export function text(doc: string, fallback?: string): Setting<string> {
  return make(doc, fallback, (value) => {
    if (value === '') throw new Error('is empty');
    return value;
  });
}

export function integer(doc: string, bounds: { min: number; max: number }, fallback?: string): Setting<number> {
  return make(doc, fallback, (value) => {
    if (!/^\d{1,15}$/.test(value)) throw new Error('is not a whole number');
    return within(Number(value), bounds);
  });
}

/**
 * A number of bytes, written as a Kubernetes quantity such as 500M or 64Gi. K, M, G and T are powers of 1000; Ki, Mi, Gi and Ti are powers
 * of 1024.
 */
export function bytes(doc: string, bounds: { min: number; max: number }, fallback?: string): Setting<number> {
  return make(doc, fallback, (value) => {
    const read = parseQuantity(value);
    if (read === undefined) throw new Error('is not a size such as 500M or 64Gi');
    return within(read, bounds, formatQuantity);
  });
}

/** A duration: a number with a unit, such as `250ms`, `10s`, `5m` or `1h`. The value is in milliseconds. */
export function duration(doc: string, bounds: { min: number; max: number }, fallback?: string): Setting<number> {
  return make(doc, fallback, (value) => {
    const read = parseDuration(value);
    if (read === undefined) throw new Error('is not a duration such as 250ms, 10s or 5m');
    return within(read, bounds);
  });
}

export function choice<const T extends string>(doc: string, choices: readonly T[], fallback?: T): Setting<T> {
  return make(doc, fallback, (value) => {
    const chosen = choices.find((candidate) => candidate === value);
    if (chosen === undefined) throw new Error(`is invalid; it must be ${alternatives.format(choices)}`);
    return chosen;
  });
}

export function flag(doc: string, fallback?: 'true' | 'false'): Setting<boolean> {
  return make(doc, fallback, (value) => {
    if (value !== 'true' && value !== 'false') throw new Error('is invalid; it must be true or false');
    return value === 'true';
  });
}

/** `HOST:PORT`, with an IPv6 host in brackets. */
export function listenAddress(doc: string, fallback?: string): Setting<ListenAddress> {
  return make(doc, fallback, parseAddress);
}

/** An `http://` URL without a path. The empty text is `undefined`. */
export function serviceUrl(doc: string, fallback?: string): Setting<string | undefined> {
  return make(doc, fallback, (value) => {
    if (value === '') return undefined;
    const url = URL.parse(value);
    if (url?.protocol !== 'http:' || `${url.origin}/` !== url.href) throw new Error('is not a URL such as http://kura-origin:18100');
    return url.origin;
  });
}

/** `HOST` or `HOST:PORT`. An IPv6 host needs brackets only before a port, because the kubelet provides a Pod's address without them. */
export function advertisedAddress(doc: string): Setting<{ readonly host: string; readonly port: number | undefined }> {
  return make(doc, undefined, (value) => {
    if (isIP(value) !== 0 || /^[\w.-]+$/.test(value)) return { host: value, port: undefined };
    return parseAddress(value);
  });
}

export function logLevel(): Setting<'trace' | 'debug' | 'info' | 'warn' | 'error'> {
  return choice('Least severe level that is logged.', ['trace', 'debug', 'info', 'warn', 'error'], 'info');
}

function parseAddress(value: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new Error('is not an address such as 0.0.0.0:8080');
  return { host: (match[1] ?? match[2]) as string, port };
}

const alternatives = new Intl.ListFormat('en', { type: 'disjunction' });

function make<T>(doc: string, fallback: string | undefined, parse: (text: string) => T): Setting<T> {
  return { doc, fallback, optional: false, parse };
}

function within(
  value: number,
  { min, max }: { min: number; max: number },
  show: (bound: number) => string | number = (bound) => bound,
): number {
  if (value < min || value > max) throw new Error(`is not between ${show(min)} and ${show(max)}`);
  return value;
}

/**
 * For every Service, Kubernetes sets `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_7000_TCP_ADDR` and similar variables in the Pods of its
 * namespace.
 */
function isServiceLink(name: string): boolean {
  return /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/.test(name);
}
