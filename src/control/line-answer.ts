/** The answer to a request that takes its time: lines of JSON, how far it is now and then, the outcome last. */
import type { ServerResponse } from 'node:http';
import type { OnProgress } from '../volume/volume-info.ts';

const PROGRESS_MS = 200;

export class LineAnswer {
  readonly #response: ServerResponse;
  #dueMs = 0;
  /** A line was sent: what goes wrong from now on is told in a line. */
  hasBegun = false;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  readonly progress: OnProgress = (progress) => {
    const nowMs = performance.now();
    // A client that does not take its lines needs no more of them.
    if (nowMs < this.#dueMs || this.#response.writableLength > 0) return;
    this.#dueMs = nowMs + PROGRESS_MS;
    this.#send({ progress });
  };

  /** Sends the last line; resolves when the connection has it, or is gone. */
  async end(outcome: unknown): Promise<void> {
    this.#send(outcome);
    this.#response.end();
    if (!this.#response.destroyed) await new Promise((resolve) => this.#response.once('close', resolve));
  }

  #send(line: unknown): void {
    if (this.#response.destroyed) return;
    if (!this.hasBegun) this.#response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    this.hasBegun = true;
    this.#response.write(`${JSON.stringify(line)}\n`);
  }
}
