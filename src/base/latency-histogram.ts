/**
 * How long things took, counted in log-linear buckets: whole microseconds up to 16, then sixteen buckets to each power of two, so that a
 * bucket's bounds are no more than 6.25 % apart. Recording is a few integer operations and allocates nothing.
 */

/** Buckets to a power of two. */
const PART_BITS = 4;
const PARTS = 1 << PART_BITS;
/** Longest time that is told from longer ones: 71 minutes. */
const MAX_US = 2 ** 32 - 1;
const BUCKETS = (32 - PART_BITS + 1) * PARTS;

/** The bucket of a time: it holds what is longer than the bound of the one before, and no longer than its own. */
function bucketOf(latencyMs: number): number {
  const us = Math.min(MAX_US, Math.max(0, Math.ceil(latencyMs * 1000) - 1));
  if (us < PARTS) return us;
  const exponent = 31 - Math.clz32(us);
  return (exponent - PART_BITS + 1) * PARTS + ((us >>> (exponent - PART_BITS)) & (PARTS - 1));
}

/** Upper bound of a bucket, in microseconds. */
function boundUs(bucket: number): number {
  const octave = bucket >>> PART_BITS;
  return octave === 0 ? bucket + 1 : (PARTS + (bucket & (PARTS - 1)) + 1) * 2 ** (octave - 1);
}

/** Buckets that hold something: upper bound in microseconds, and how many there are. In rising order. */
export type LatencyBuckets = readonly (readonly [upToUs: number, count: number])[];

/** What a histogram says; times in milliseconds. Quantiles are the upper bound of their bucket, at most the longest time. Null: nothing was recorded. */
export interface LatencySummary {
  readonly count: number;
  readonly sumMs: number;
  readonly maxMs: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly p999Ms: number | null;
}

export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sumMs = 0;
  #maxMs = 0;

  get count(): number {
    return this.#count;
  }

  get sumMs(): number {
    return this.#sumMs;
  }

  /** `times` things took `latencyMs` each. */
  record(latencyMs: number, times: number): void {
    this.#counts[bucketOf(latencyMs)] += times;
    this.#count += times;
    this.#sumMs += latencyMs * times;
    if (latencyMs > this.#maxMs) this.#maxMs = latencyMs;
  }

  /** How many took no longer than `2 ** exponent` microseconds, exactly. `exponent` is 0 to 31. */
  countUpTo(exponent: number): number {
    const end = exponent <= PART_BITS ? 2 ** exponent : (exponent - PART_BITS + 1) * PARTS;
    let count = 0;
    for (let bucket = 0; bucket < end; bucket += 1) count += this.#counts[bucket];
    return count;
  }

  buckets(): LatencyBuckets {
    const found: [number, number][] = [];
    this.#counts.forEach((count, bucket) => {
      if (count > 0) found.push([boundUs(bucket), count]);
    });
    return found;
  }

  summary(): LatencySummary {
    const buckets = this.buckets();
    const at = (part: number): number | null => {
      const upToMs = quantileMs(buckets, part);
      return upToMs === null ? null : Math.min(upToMs, this.#maxMs);
    };
    return { count: this.#count, sumMs: this.#sumMs, maxMs: this.#maxMs, p50Ms: at(0.5), p99Ms: at(0.99), p999Ms: at(0.999) };
  }
}

/** The time that a part of all took no longer than, in milliseconds: 0.99 for the 99th percentile. Null if there are none. */
export function quantileMs(buckets: LatencyBuckets, part: number): number | null {
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [upToUs, count] of buckets) {
    seen += count;
    if (seen >= part * total) return upToUs / 1000;
  }
  return null;
}

/** What was recorded between two looks at one histogram. */
export function bucketsSince(now: LatencyBuckets, before: LatencyBuckets): LatencyBuckets {
  const earlier = new Map(before);
  return now.map(([upToUs, count]) => [upToUs, count - (earlier.get(upToUs) ?? 0)] as const).filter(([, count]) => count > 0);
}
