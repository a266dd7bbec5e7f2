/** How far the opening of volumes is, while a server runs: on one line of a terminal that somebody looks at, else in its log. */
import type { Clock, Logger } from '../env/env.ts';
import type { OpeningWatch } from '../volume/volume-info.ts';
import type { Terminal } from './context.ts';
import { DELAY_MS, ProgressLine } from './progress.ts';

/** Between two lines of the log about one volume. */
const LOG_INTERVAL_MS = 5000;

export interface OpeningProgressOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly terminal: Terminal;
}

export class OpeningProgress {
  readonly #options: OpeningProgressOptions;
  readonly #lines = new Set<ProgressLine>();

  constructor(options: OpeningProgressOptions) {
    this.#options = options;
  }

  /** Takes the line away, before anything else is printed: it comes again with the next progress. */
  clear(): void {
    for (const line of this.#lines) line.end();
  }

  readonly watch = (volume: string): OpeningWatch => (this.#options.terminal.isInteractive ? this.#onTerminal(volume) : this.#inLog(volume));

  #onTerminal(volume: string): OpeningWatch {
    const { clock, terminal } = this.#options;
    const line = new ProgressLine(terminal, () => clock.nowMs());
    this.#lines.add(line);
    return {
      onProgress: ({ task, done, total }) => line.update({ task: `opening ${volume}, ${task}`, done, total }),
      end: () => {
        line.end();
        this.#lines.delete(line);
      },
    };
  }

  #inLog(volume: string): OpeningWatch {
    const { clock, logger } = this.#options;
    let dueMs = clock.nowMs() + DELAY_MS;
    return {
      onProgress: (progress) => {
        const nowMs = clock.nowMs();
        if (nowMs < dueMs) return;
        dueMs = nowMs + LOG_INTERVAL_MS;
        logger.log('info', 'recovering', { volume, ...progress });
      },
      end: () => undefined,
    };
  }
}
