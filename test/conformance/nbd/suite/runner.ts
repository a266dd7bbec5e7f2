/** Runs behaviours against a server, one after the other, each on connections of its own. */
import type { ReplyStyle } from '../../../support/reply-reader.ts';
import { Deviation, Skipped } from './check.ts';
import type { KnownDeviation } from './deviations.ts';
import { type Facts, learnFacts } from './facts.ts';
import type { NamedBehaviour } from './load.ts';
import { Subject } from './subject.ts';
import type { Target } from './target.ts';

export type Verdict = 'ok' | 'skipped' | 'known deviation' | 'FAILED';

export interface Result {
  /** Id of the behaviour, with the style of replies if there are several. */
  readonly name: string;
  readonly behaviour: NamedBehaviour;
  readonly verdict: Verdict;
  /** Why it was skipped or is known; what was expected and what came; what is worth telling. */
  readonly detail: string;
  /** The last bytes of its connections. */
  readonly tape: readonly string[];
  readonly elapsedMs: number;
}

export interface RunOptions {
  readonly behaviours: readonly NamedBehaviour[];
  /** What the server is known to do otherwise. */
  readonly known?: readonly KnownDeviation[];
  /** Which of them, by name. */
  readonly selected?: (name: string) => boolean;
  /** How long one behaviour may take. */
  readonly timeoutMs?: number;
  readonly onResult?: (result: Result) => void;
}

interface Finding {
  readonly verdict: Verdict;
  readonly detail: string;
}

export async function runSuite(target: Target, { behaviours, known = [], selected = () => true, timeoutMs = 20_000, onResult = () => undefined }: RunOptions): Promise<Result[]> {
  const facts = await learnFacts(target).catch((error: unknown) => {
    throw new Error(`${target.uri}: not even one session can be had: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  });
  const results: Result[] = [];
  for (const behaviour of behaviours) {
    for (const style of behaviour.styles ?? (['simple'] as const)) {
      const name = behaviour.styles === undefined ? behaviour.id : `${behaviour.id} [${style}]`;
      if (!selected(name)) continue;
      const result = await runOne({ target, facts, behaviour, style, name, timeoutMs, known });
      results.push(result);
      onResult(result);
    }
  }
  return results;
}

interface One {
  readonly target: Target;
  readonly facts: Facts;
  readonly behaviour: NamedBehaviour;
  readonly style: ReplyStyle;
  readonly name: string;
  readonly timeoutMs: number;
  readonly known: readonly KnownDeviation[];
}

async function runOne({ target, facts, behaviour, style, name, timeoutMs, known }: One): Promise<Result> {
  const began = performance.now();
  const subject = new Subject(target, facts);
  await target.revive();
  // Where each connection is a process of its own, they take their time to start.
  const finding = await findingOf(subject, behaviour, style, target.severalConnections ? timeoutMs : 3 * timeoutMs);
  subject.dispose();
  const deviation = known.find((each) => (each.behaviour === name || each.behaviour === behaviour.id) && (each.inTls !== true || target.tls !== null));
  return { name, behaviour, ...judge(finding, deviation), tape: [...subject.tape], elapsedMs: performance.now() - began };
}

function judge(finding: Finding, known: KnownDeviation | undefined): Finding {
  if (known === undefined || finding.verdict === 'skipped') return finding;
  if (finding.verdict === 'FAILED') return { verdict: 'known deviation', detail: `${known.what} (${known.section}); ${finding.detail}` };
  if (known.sometimes === true) return finding;
  return { verdict: 'FAILED', detail: `expected the deviation that is listed: "${known.what}"; got what the protocol says. Take it off the list` };
}

async function findingOf(subject: Subject, behaviour: NamedBehaviour, style: ReplyStyle, timeoutMs: number): Promise<Finding> {
  const needs = style === 'simple' ? [] : [style];
  for (const need of [...needs, ...(behaviour.needs ?? [])]) {
    const reason = subject.lacks(need);
    if (reason !== null) return { verdict: 'skipped', detail: reason };
  }
  try {
    await within(timeoutMs, behaviour.run(subject, style));
    // Whatever a client does hurts nobody but itself.
    if (subject.target.severalConnections) await within(timeoutMs, subject.serves(), 'a new client afterwards');
    return { verdict: 'ok', detail: subject.remark };
  } catch (error) {
    if (error instanceof Skipped) return { verdict: 'skipped', detail: error.message };
    if (error instanceof Deviation) return { verdict: 'FAILED', detail: error.message };
    // The strict client has found it, or the server was not there.
    return { verdict: 'FAILED', detail: `expected what the protocol says, got: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function within(timeoutMs: number, work: Promise<void>, what = 'an answer'): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Deviation(what, { expected: 'in time', got: `nothing for ${timeoutMs} ms` })), timeoutMs);
    work.finally(() => clearTimeout(timer)).then(resolve, reject);
  });
}
