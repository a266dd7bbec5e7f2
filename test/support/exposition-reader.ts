/** A strict reader of Prometheus' text format: what promtool would complain about is an error here, where that is not installed. */

export interface ReadFamily {
  readonly type: string;
  readonly help: string;
  readonly samples: { readonly suffix: string; readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/u;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/uy;

const unescape = (text: string): string => text.replaceAll(/\\(["\\n])/gu, (_, letter: string) => (letter === 'n' ? '\n' : letter));

function readLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (LABEL.lastIndex = 0; LABEL.lastIndex < text.length; ) {
    const match = LABEL.exec(text);
    if (match === null) throw new Error(`labels {${text}}`);
    if (match[1] in labels) throw new Error(`label ${match[1]} twice`);
    labels[match[1]] = unescape(match[2]);
  }
  return labels;
}

function valueOf(text: string): number {
  const value = text === '+Inf' ? Number.POSITIVE_INFINITY : Number(text);
  if (Number.isNaN(value)) throw new Error(`value ${text}`);
  return value;
}

/** Families by name. Throws at whatever is not as the format has it. */
export function readExposition(text: string): Map<string, ReadFamily> {
  if (!text.endsWith('\n')) throw new Error('no newline at the end');
  const families = new Map<string, ReadFamily>();
  const seen = new Set<string>();
  let current: { name: string; family: ReadFamily } | null = null;
  let help: [string, string] | null = null;
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/u.exec(line);
    if (comment?.[1] === 'HELP') {
      help = [comment[2], unescape(comment[3])];
    } else if (comment?.[1] === 'TYPE') {
      const [, , name, type] = comment;
      if (help?.[0] !== name || families.has(name)) throw new Error(`${name}: its help must stand before its type, and both once`);
      current = { name, family: { type, help: help[1], samples: [] } };
      families.set(name, current.family);
    } else {
      const match = SAMPLE.exec(line);
      if (match === null || current === null || !match[1].startsWith(current.name)) throw new Error(`line ${line}`);
      if (seen.has(line.slice(0, line.lastIndexOf(' ')))) throw new Error(`twice: ${line}`);
      seen.add(line.slice(0, line.lastIndexOf(' ')));
      const suffix = match[1].slice(current.name.length);
      if (!(current.family.type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']).includes(suffix)) throw new Error(`suffix of ${line}`);
      current.family.samples.push({ suffix, labels: readLabels(match[2] ?? ''), value: valueOf(match[3]) });
    }
  }
  for (const [name, family] of families) if (family.type === 'histogram') checkHistogram(name, family);
  return families;
}

/** Buckets rise, the last one is `+Inf`, and it is the count. */
function checkHistogram(name: string, { samples }: ReadFamily): void {
  let last = { bound: Number.NEGATIVE_INFINITY, value: 0 };
  for (const { suffix, labels, value } of samples) {
    if (suffix === '_bucket') {
      const bound = valueOf(labels.le ?? '');
      const isFirst = last.bound === Number.POSITIVE_INFINITY || last.bound === Number.NEGATIVE_INFINITY;
      if (!isFirst && (bound <= last.bound || value < last.value)) throw new Error(`${name}: bucket ${bound} behind ${last.bound}`);
      last = { bound, value };
    } else if (suffix === '_count' && (last.bound !== Number.POSITIVE_INFINITY || last.value !== value)) {
      throw new Error(`${name}: the last bucket is not the count`);
    }
  }
}
