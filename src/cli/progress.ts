/** How far a long task is, on one line of a terminal that somebody looks at. */
import type { Progress } from '../volume/inspect-findings.ts';
import type { Terminal } from './context.ts';

const BAR_CELLS = 30;
/** A task that ends sooner shows nothing. */
export const DELAY_MS = 1000;
const INTERVAL_MS = 100;

export class ProgressLine {
  readonly #terminal: Terminal;
  readonly #nowMs: () => number;
  #dueMs: number;
  #length = 0;

  constructor(terminal: Terminal, nowMs: () => number) {
    this.#terminal = terminal;
    this.#nowMs = nowMs;
    this.#dueMs = nowMs() + DELAY_MS;
  }

  readonly update = ({ task, done, total }: Progress): void => {
    const now = this.#nowMs();
    if (!this.#terminal.isInteractive || now < this.#dueMs) return;
    this.#dueMs = now + INTERVAL_MS;
    const part = total === 0 ? 1 : Math.min(1, done / total);
    const cells = Math.round(part * BAR_CELLS);
    this.#show(`[${'#'.repeat(cells)}${'.'.repeat(BAR_CELLS - cells)}] ${String(Math.floor(part * 100)).padStart(3)} %  ${task}: ${done} of ${total}`);
  };

  #show(text: string): void {
    this.#terminal.error(`\r${text.padEnd(this.#length)}`);
    this.#length = text.length;
  }

  /** Takes the line away, before anything else is printed. */
  end(): void {
    if (this.#length > 0) this.#terminal.error(`\r${' '.repeat(this.#length)}\r`);
    this.#length = 0;
  }
}
