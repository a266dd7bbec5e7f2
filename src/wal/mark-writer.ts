/**
 * Keeps the mark of what is on the disk (`format/synced-mark.ts`): written a moment after a sync, so that a run of them costs one small write. It
 * is not synced: after a power cut an older one stands there, and a kill leaves it as it is. A mark that cannot be written is none; the log
 * needs none.
 */
import type { Clock, File, Timer } from '../env/env.ts';
import { encodeSyncedMark } from '../format/synced-mark.ts';

/** From a sync to the mark. */
const DELAY_MS = 50;

export interface MarkWriterOptions {
  readonly clock: Clock;
  /** The mark's file; whoever opened it closes it. */
  readonly file: Pick<File, 'write'>;
  readonly volumeId: Uint8Array;
  readonly epoch: number;
  /** Told once, of the first failure; no mark is written any more. */
  readonly failed: (error: unknown) => void;
}

export class MarkWriter {
  readonly #options: MarkWriterOptions;
  #lsn = 0;
  #marked = 0;
  #timer: Timer | null = null;
  #writing: Promise<void> | null = null;
  #hasFailed = false;
  #closed = false;

  constructor(options: MarkWriterOptions) {
    this.#options = options;
  }

  /** Records up to `lsn` are on the disk, whatever happens. */
  durable(lsn: number): void {
    this.#lsn = lsn;
    this.#arm();
  }

  #arm(): void {
    if (this.#timer !== null || this.#writing !== null || this.#hasFailed || this.#closed || this.#lsn <= this.#marked) return;
    this.#timer = this.#options.clock.setTimer(DELAY_MS, () => {
      this.#timer = null;
      this.#write();
    });
  }

  #write(): void {
    const { file, volumeId, epoch, failed } = this.#options;
    const lsn = this.#lsn;
    this.#writing = file.write([encodeSyncedMark({ volumeId, epoch, lsn })], 0).then(
      () => {
        this.#writing = null;
        this.#marked = lsn;
        this.#arm();
      },
      (error: unknown) => {
        this.#writing = null;
        this.#hasFailed = true;
        failed(error);
      },
    );
  }

  /** Writes what is not marked yet; then nothing more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = null;
    await this.#writing;
    if (!this.#hasFailed && this.#lsn > this.#marked) this.#write();
    await this.#writing;
  }
}
