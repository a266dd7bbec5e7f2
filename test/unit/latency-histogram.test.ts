import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatencyHistogram, bucketsSince, quantileMs } from '../../src/base/latency-histogram.ts';

const of = (...latencies: number[]): LatencyHistogram => {
  const histogram = new LatencyHistogram();
  for (const latency of latencies) histogram.record(latency, 1);
  return histogram;
};

describe('a latency histogram', () => {
  test('keeps each time in a bucket that ends at most a sixteenth above it, and begins below it', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 4_000_000, noNaN: true }), (latencyMs) => {
        const [[upToUs, count]] = of(latencyMs).buckets();
        expect(count).toBe(1);
        expect(upToUs / 1000).toBeGreaterThanOrEqual(latencyMs);
        // Below 16 us a bucket is one microsecond.
        expect(upToUs).toBeLessThanOrEqual(Math.max(latencyMs * 1000 * (1 + 1 / 16), latencyMs * 1000 + 1) + 1e-6 * upToUs);
      }),
    );
  });

  test('counts exactly what took no longer than a power of two microseconds', () => {
    const histogram = of(0, 0.001, 0.0011, 0.015, 0.016, 0.0161, 0.031, 0.032, 0.033, 1.024, 1.0241, 67_108.864);
    expect([0, 1, 4, 5, 10, 26].map((exponent) => histogram.countUpTo(exponent))).toEqual([2, 3, 5, 8, 10, 12]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2 ** 31 })), fc.integer({ min: 0, max: 31 }), (microseconds, exponent) => {
        expect(of(...microseconds.map((us) => us / 1000)).countUpTo(exponent)).toBe(microseconds.filter((us) => us <= 2 ** exponent).length);
      }),
    );
  });

  test('says count, sum, the longest, and quantiles that are never too low', () => {
    expect(new LatencyHistogram().summary()).toEqual({ count: 0, sumMs: 0, maxMs: 0, p50Ms: null, p99Ms: null, p999Ms: null });
    const histogram = new LatencyHistogram();
    histogram.record(0.1, 990);
    histogram.record(5, 9);
    histogram.record(80, 1);
    const { count, sumMs, maxMs, p50Ms, p99Ms, p999Ms } = histogram.summary();
    expect({ count, maxMs }).toEqual({ count: 1000, maxMs: 80 });
    expect(sumMs).toBeCloseTo(224);
    for (const [found, exact] of [[p50Ms, 0.1], [p99Ms, 0.1], [p999Ms, 5]] as const) {
      expect(found).toBeGreaterThanOrEqual(exact);
      expect(found).toBeLessThanOrEqual(exact * (1 + 1 / 16));
    }
    expect(of(7, 7, 7).summary()).toMatchObject({ p50Ms: 7, p999Ms: 7 }); // no more than the longest
  });

  test('takes a time that is beyond its range, or before the start of the clock', () => {
    expect(of(1e12).buckets()).toEqual([[2 ** 32, 1]]);
    expect(of(-1).buckets()).toEqual([[1, 1]]);
  });

  test('says what came between two looks', () => {
    const histogram = of(1, 1, 4);
    const before = histogram.buckets();
    histogram.record(4, 1);
    histogram.record(9, 2);
    const between = bucketsSince(histogram.buckets(), before);
    expect(between.map(([, count]) => count)).toEqual([1, 2]);
    expect(quantileMs(between, 0.5)).toBeGreaterThanOrEqual(9);
    expect(quantileMs([], 0.5)).toBeNull();
  });
});
