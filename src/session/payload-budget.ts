/**
 * The memory that payloads may take which are not whole yet, or wait for the disk, in all connections together.
 *
 * A reservation covers a whole payload and is granted at once or in its turn; whoever holds one never waits for more. So
 * connections cannot block one another for good, each holding half of what it needs.
 *
 * Payloads of up to a piece stand in a piece, of which each connection has at most one: what has arrived must stay somewhere. Pieces are
 * counted beside the reservations, and make nobody wait.
 */
import { assert } from '../base/assert.ts';

export interface Reservation {
  readonly bytes: number;
  readonly granted: boolean;
  /** Gives the bytes back, or leaves the queue; exactly once. */
  release(): void;
}

type State = 'waiting' | 'granted' | 'released';

class BudgetReservation implements Reservation {
  readonly bytes: number;
  readonly onGranted: () => void;
  readonly #budget: PayloadBudget;
  state: State = 'waiting';

  constructor(budget: PayloadBudget, bytes: number, onGranted: () => void) {
    this.#budget = budget;
    this.bytes = bytes;
    this.onGranted = onGranted;
  }

  get granted(): boolean {
    return this.state === 'granted';
  }

  release(): void {
    this.#budget.release(this);
  }
}

export class PayloadBudget {
  readonly #totalBytes: number;
  readonly #waiting: BudgetReservation[] = [];
  #usedBytes = 0;
  #pieceBytes = 0;

  constructor(totalBytes: number) {
    this.#totalBytes = totalBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Bytes of pieces. */
  get pieceBytes(): number {
    return this.#pieceBytes;
  }

  /** Whether somebody waits, or pieces take more than reservations may; then holders that do not get on are worth dropping early. */
  get contended(): boolean {
    return this.#waiting.length > 0 || this.#pieceBytes > this.#totalBytes;
  }

  /** Counts a piece that was taken, or given back when `byteCount` is negative. */
  countPiece(byteCount: number): void {
    this.#pieceBytes += byteCount;
  }

  /**
   * Asks for `bytes`. If the reservation is not `granted` on return it waits in line, and `onGranted` is called once it is. One
   * that is larger than the whole budget is granted when nobody else holds anything.
   */
  reserve(bytes: number, onGranted: () => void): Reservation {
    const reservation = new BudgetReservation(this, bytes, onGranted);
    if (this.#waiting.length === 0 && this.#fits(bytes)) this.#grant(reservation);
    else this.#waiting.push(reservation);
    return reservation;
  }

  /** Used by the reservation itself. */
  release(reservation: BudgetReservation): void {
    assert(reservation.state !== 'released', 'a payload reservation was released twice');
    if (reservation.state === 'granted') this.#usedBytes -= reservation.bytes;
    else this.#waiting.splice(this.#waiting.indexOf(reservation), 1);
    reservation.state = 'released';
    this.#grantWaiting();
  }

  #fits(bytes: number): boolean {
    return this.#usedBytes === 0 || this.#usedBytes + bytes <= this.#totalBytes;
  }

  #grant(reservation: BudgetReservation): void {
    reservation.state = 'granted';
    this.#usedBytes += reservation.bytes;
  }

  #grantWaiting(): void {
    for (let head = this.#waiting.at(0); head !== undefined && this.#fits(head.bytes); head = this.#waiting.at(0)) {
      this.#waiting.shift();
      this.#grant(head);
      head.onGranted();
    }
  }
}
