/** Prometheus' text format, version 0.0.4: families of samples, each with a type and a help text. */

export type MetricType = 'counter' | 'gauge' | 'histogram';
export type Labels = Readonly<Record<string, string>>;

export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

const escapeHelp = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
const escapeLabel = (text: string): string => escapeHelp(text).replaceAll('"', '\\"');

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

export class Exposition {
  #text = '';

  /** Begins a family; its samples follow. One without samples is not told. */
  family(name: string, type: MetricType, help: string): Family {
    let hasBegun = false;
    return {
      sample: (value, labels = {}, suffix = '') => {
        if (!hasBegun) this.#text += `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`;
        hasBegun = true;
        this.#text += `${name}${suffix}${formatLabels(labels)} ${value}\n`;
      },
    };
  }

  toString(): string {
    return this.#text;
  }
}

export interface Family {
  /** `suffix`: `_bucket`, `_sum`, `_count` of a histogram. */
  sample(value: number, labels?: Labels, suffix?: string): void;
}
