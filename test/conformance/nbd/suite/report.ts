/** The table at the end of a run. */
import type { Result, Verdict } from './runner.ts';

const VERDICTS: readonly Verdict[] = ['ok', 'skipped', 'known deviation', 'FAILED'];

export function countsOf(results: readonly Result[]): string {
  return VERDICTS.map((verdict) => `${results.filter((result) => result.verdict === verdict).length} ${verdict}`).join(', ');
}

export function lineOf({ name, behaviour, verdict, detail }: Result): string {
  const place = `${behaviour.section} (NBD.md ${behaviour.checklist}, ${behaviour.level})`;
  const words = detail === '' ? verdict : `${verdict}: ${detail}`;
  return `${name.padEnd(52)}  ${place.padEnd(72)}  ${words}`;
}

/** One line a behaviour; what failed follows with the last bytes of its connections. */
export function tableOf(heading: string, results: readonly Result[]): string {
  const failures = results.filter(({ verdict }) => verdict === 'FAILED');
  const lines = [
    `== ${heading}`,
    `${'behaviour'.padEnd(52)}  ${'section of the protocol'.padEnd(72)}  result`,
    ...results.map(lineOf),
    ...failures.flatMap(({ name, behaviour, detail, tape }) => ['', `FAILED ${name}: ${behaviour.title}`, `  ${detail}`, ...tape.map((line) => `  ${line}`)]),
    `${heading}: ${countsOf(results)}`,
  ];
  return `${lines.join('\n')}\n`;
}
