/** Which of the youngest requests to one block a crash may have left, when a request is there only with all that were answered before it was sent. */

interface Timed<M> {
  readonly mutation: M;
  /** Places in the order of all sendings and answers; Infinity: not answered. */
  readonly sent: number;
  readonly answered: number;
}

/** One possible outcome. `surely` holds what all further outcomes have beyond the last one's; `perhaps` belongs to this one alone. */
export interface Outcome<M> {
  readonly surely: readonly M[];
  readonly perhaps: readonly M[];
}

const MOST_OVERLAPPING = 12;

/** `requests`: those to one block, oldest answer first. Requests whose times overlap lie apart within the block, so their order is free. */
export function* possibleOutcomes<M>(requests: readonly Timed<M>[]): Generator<Outcome<M>> {
  for (let missing = 0; missing <= requests.length; missing += 1) {
    // The first one that is missing: all answered before it are there, and of the later ones only such as were sent before its answer.
    const answered = missing < requests.length ? requests[missing].answered : Infinity;
    const free = requests.slice(missing + 1).filter(({ sent }) => sent < answered);
    if (free.length > MOST_OVERLAPPING) throw new Error(`${free.length} requests in flight in one block: too many to try all outcomes`);
    for (let subset = 0; subset < 2 ** free.length; subset += 1) {
      const isThere = (index: number): boolean => ((subset >> index) & 1) === 1;
      const isClosed = free.every(({ sent }, later) => !isThere(later) || free.every((other, index) => isThere(index) || other.answered > sent));
      if (!isClosed) continue; // never the empty one
      const surely = subset === 0 && missing > 0 ? [requests[missing - 1].mutation] : [];
      const perhaps = free.filter((_, index) => isThere(index)).map(({ mutation }) => mutation);
      yield { surely, perhaps };
    }
  }
}
