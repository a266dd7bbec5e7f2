/**
 * What the requests of each volume come to. A session reads the clock when input arrives and when its replies are handed to the socket, and
 * at no other time: requests that a turn takes together have arrived together, and are answered together.
 */
import { OPERATION, RequestStats } from '../base/request-stats.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../protocol/constants.ts';

/** Answers of one turn that are kept apart; more of them cost one more look at the clock. */
const ANSWERS_MAX = 256;

const OPERATION_OF_COMMAND = new Uint8Array(8);
OPERATION_OF_COMMAND[NBD_CMD_READ] = OPERATION.READ;
OPERATION_OF_COMMAND[NBD_CMD_WRITE] = OPERATION.WRITE;
OPERATION_OF_COMMAND[NBD_CMD_FLUSH] = OPERATION.FLUSH;
OPERATION_OF_COMMAND[NBD_CMD_TRIM] = OPERATION.TRIM;
OPERATION_OF_COMMAND[NBD_CMD_CACHE] = OPERATION.CACHE;
OPERATION_OF_COMMAND[NBD_CMD_WRITE_ZEROES] = OPERATION.ZERO;
OPERATION_OF_COMMAND[NBD_CMD_BLOCK_STATUS] = OPERATION.STATUS;

/** The statistics of all volumes that clients of this server have had, by name. They outlive the closing of a volume. */
export class TrafficTable {
  /** Monotonic milliseconds, with fractions. */
  readonly nowMs: () => number;
  readonly #stats = new Map<string, RequestStats>();

  constructor(nowMs: () => number) {
    this.nowMs = nowMs;
  }

  /** The statistics of a volume; null if no client has had it. */
  find(volume: string): RequestStats | null {
    return this.#stats.get(volume) ?? null;
  }

  names(): readonly string[] {
    return [...this.#stats.keys()];
  }

  of(volume: string): RequestStats {
    const found = this.#stats.get(volume);
    if (found !== undefined) return found;
    const made = new RequestStats();
    this.#stats.set(volume, made);
    return made;
  }

  /** There is no volume of that name any more. */
  forget(volume: string): void {
    this.#stats.delete(volume);
  }
}

/** Times the requests of one connection. */
export class RequestMeter {
  readonly stats: RequestStats;
  readonly #nowMs: () => number;
  /** When the input that is being taken arrived. */
  arrivedMs = 0;
  /** What was answered in this turn, as runs of one operation that began at one time. */
  readonly #operations = new Uint8Array(ANSWERS_MAX);
  readonly #begunMs = new Float64Array(ANSWERS_MAX);
  readonly #counts = new Float64Array(ANSWERS_MAX);
  #runs = 0;

  constructor(stats: RequestStats, nowMs: () => number) {
    this.stats = stats;
    this.#nowMs = nowMs;
  }

  /** Input has arrived. Not called while some that arrived before waits: it has waited since then. */
  arrived(): void {
    this.arrivedMs = this.#nowMs();
  }

  /** A request that arrived at `begunMs` is answered well; its answer leaves with this turn. */
  answered(command: number, begunMs: number, lengthBytes: number): void {
    const operation = OPERATION_OF_COMMAND[command];
    this.stats.bytes[operation] += command === NBD_CMD_FLUSH ? 0 : lengthBytes; // the length of a FLUSH means nothing
    const last = this.#runs - 1;
    if (last >= 0 && this.#operations[last] === operation && this.#begunMs[last] === begunMs) {
      this.#counts[last] += 1;
      return;
    }
    if (this.#runs === ANSWERS_MAX) this.turnEnded();
    this.#operations[this.#runs] = operation;
    this.#begunMs[this.#runs] = begunMs;
    this.#counts[this.#runs] = 1;
    this.#runs += 1;
  }

  failed(command: number): void {
    this.stats.errors[OPERATION_OF_COMMAND[command]] += 1;
  }

  /** The answers of the turn are with the socket. */
  turnEnded(): void {
    if (this.#runs === 0) return;
    const nowMs = this.#nowMs();
    for (let run = 0; run < this.#runs; run += 1) this.stats.latencies[this.#operations[run]].record(nowMs - this.#begunMs[run], this.#counts[run]);
    this.#runs = 0;
  }
}
