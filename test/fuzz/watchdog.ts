/** A thread that sees when an input comes to no end: it writes the input to a file and ends the process. */
import { Worker } from 'node:worker_threads';

const INPUT_BYTES_MAX = 1 << 16;

const SOURCE = `
const { workerData: { shared, path, limitMs } } = require('node:worker_threads');
const { writeFileSync } = require('node:fs');
const head = new Int32Array(shared, 0, 2);
let last = -1;
setInterval(() => {
  const count = Atomics.load(head, 0);
  if (count !== last || count === 0) { last = count; return; }
  writeFileSync(path, Buffer.from(new Uint8Array(shared, 8, Atomics.load(head, 1))));
  writeFileSync(2, 'an input has run for more than ' + limitMs + ' ms: ' + path + '\\n');
  process.kill(process.pid, 'SIGKILL');
}, limitMs);
`;

export class Watchdog {
  readonly #head: Int32Array;
  readonly #input: Uint8Array;
  readonly #worker: Worker;

  constructor(path: string, limitMs: number) {
    const shared = new SharedArrayBuffer(8 + INPUT_BYTES_MAX);
    this.#head = new Int32Array(shared, 0, 2);
    this.#input = new Uint8Array(shared, 8);
    this.#worker = new Worker(SOURCE, { eval: true, workerData: { shared, path, limitMs } });
    this.#worker.unref();
  }

  /** That input begins. */
  begin(input: Uint8Array): void {
    const length = Math.min(input.length, INPUT_BYTES_MAX);
    this.#input.set(length === input.length ? input : input.subarray(0, length));
    this.#head[1] = length;
    this.#head[0] += 1;
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}
