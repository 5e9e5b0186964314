/** The tables of docs/reference.md. Lists each setting, metric and problem code without a description. */
import type { Registry } from 'prom-client';
import { settingName } from '../services/shared/environment.ts';

interface SettingLike {
  readonly doc: string;
  readonly fallback: string | undefined;
  readonly optional: boolean;
}

export interface ProblemRow {
  readonly code: string;
  readonly status: number;
  readonly detail: string;
}

export class ReferenceTables {
  /** Names without a description. */
  readonly missing: string[] = [];

  settings(prefix: string, settings: Readonly<Record<string, SettingLike>>): string {
    const rows = Object.entries(settings).map(([field, { doc, fallback, optional }]) => {
      const name = settingName(prefix, field);
      this.#require(name, doc);
      return [`\`${name}\``, fallback === undefined ? (optional ? 'none' : 'required') : `\`${fallback}\``, doc];
    });
    return table(['name', 'default', 'meaning'], rows);
  }

  async metrics(registry: Registry): Promise<string> {
    const metrics = (await registry.getMetricsAsJSON()).toSorted((one, other) => (one.name < other.name ? -1 : 1));
    const labels = new Map(registry.getMetricsAsArray().map((metric) => [metric.name, labelNames(metric)]));
    const rows = metrics.map(({ name, type, help }) => {
      this.#require(name, help);
      const named = labels.get(name) ?? [];
      return [`\`${name}\``, String(type), named.length === 0 ? 'none' : named.map((label) => `\`${label}\``).join(', '), help];
    });
    return table(['name', 'type', 'labels', 'meaning'], rows);
  }

  problems(problems: readonly ProblemRow[]): string {
    for (const { code, detail } of problems) this.#require(code, detail);
    return table(
      ['code', 'status', 'detail'],
      problems.map(({ code, status, detail }) => [`\`${code}\``, String(status), detail]),
    );
  }

  #require(name: string, description: string): void {
    if (description.trim() === '') this.missing.push(name);
  }
}

/** The types of prom-client do not have this property. */
function labelNames(metric: object): readonly string[] {
  return (metric as { labelNames?: readonly string[] }).labelNames ?? [];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
