import { describe, expect, test } from 'vitest';
import { AbortListeners } from '../../src/base/async.ts';
import type { RetrySettings } from '../../src/base/settings-types.ts';
import { RULES, remoteError, type FailureRule } from '../../src/store/remote-errors.ts';
import { drawUnit, retry, retryDelayMs, type Attempt } from '../../src/store/retry.ts';
import { ManualClock, settleMicrotasks } from '../support/fake-world.ts';
import { failureOf } from '../support/remote-contract.ts';

const SETTINGS: RetrySettings = { attempts: 5, delayMs: 100, throttledDelayMs: 1000, delayMsMax: 3000, attemptTimeoutMs: 10_000, callTimeoutMs: 60_000 };
const request = { doing: 'reading', place: { endpoint: 'http://store', bucket: 'b', prefix: '' }, key: 'k' };

function failure(rule: FailureRule): Error {
  return remoteError(rule, request, 'word', 'made by the test');
}

/** Chance that always draws the same. */
function constant(unit: number): { fill(target: Uint8Array): void } {
  return { fill: (target) => new DataView(target.buffer).setUint32(0, Math.floor(unit * 2 ** 32)) };
}

class Harness {
  readonly clock = new ManualClock();
  readonly startedMs: number[] = [];
  readonly attempts: Attempt[] = [];
  readonly logged: string[] = [];
  retries = 0;

  run<T>(act: (attempt: Attempt) => Promise<T>, options: { readonly timeoutMs?: number; readonly isPatient?: boolean; readonly signals?: readonly AbortSignal[]; readonly unit?: number } = {}): Promise<T> {
    const world = { clock: this.clock, random: constant(options.unit ?? 0.5), logger: { log: (_level: string, event: string) => void this.logged.push(event) } };
    return retry(world, SETTINGS, {
      request,
      timeoutMs: options.timeoutMs ?? null,
      isPatient: options.isPatient ?? false,
      signals: options.signals ?? [],
      listeners: new AbortListeners(),
      run: (attempt) => {
        this.startedMs.push(this.clock.nowMs());
        this.attempts.push(attempt);
        return act(attempt);
      },
      onRetry: () => (this.retries += 1),
    });
  }

  async advance(durationMs: number): Promise<void> {
    await settleMicrotasks();
    for (let passed = 0; passed < durationMs; passed += 10) {
      this.clock.advance(10);
      await settleMicrotasks();
    }
  }
}

describe('the delay before the next try', () => {
  test('is drawn evenly up to a limit that doubles', () => {
    expect([1, 2, 3, 4, 5, 6, 60].map((attempt) => retryDelayMs(SETTINGS, attempt, false, 1))).toEqual([100, 200, 400, 800, 1600, 3000, 3000]);
    expect(retryDelayMs(SETTINGS, 3, false, 0.25)).toBe(100);
    expect(retryDelayMs(SETTINGS, 3, false, 0)).toBe(0);
  });

  test('is longer when the store asks for fewer requests', () => {
    expect([1, 2, 3].map((attempt) => retryDelayMs(SETTINGS, attempt, true, 1))).toEqual([1000, 2000, 3000]);
  });

  test('takes its chance from four bytes', () => {
    expect(drawUnit(constant(0))).toBe(0);
    expect(drawUnit({ fill: (target) => target.fill(0xff) })).toBeLessThan(1);
    expect(drawUnit({ fill: (target) => target.set([0x80, 0, 0, 0]) })).toBe(0.5);
  });
});

describe('a call', () => {
  test('that fails in passing is tried again, after its delays, and counted', async () => {
    const harness = new Harness();
    const call = harness.run(({ number }) => (number < 4 ? Promise.reject(failure(RULES.transient)) : Promise.resolve(number)));
    await harness.advance(1000);
    expect(await call).toBe(4);
    const gaps = harness.startedMs.slice(1).map((startMs, index) => startMs - (harness.startedMs[index] ?? 0));
    expect(gaps).toEqual([50, 100, 200]);
    expect({ retries: harness.retries, logged: harness.logged }).toEqual({ retries: 3, logged: ['remote-retry', 'remote-retry', 'remote-retry'] });
  });

  test.each([['damaged', RULES.damaged], ['not-found', RULES.notFound], ['lost-condition', RULES.lostCondition], ['permanent', RULES.unsupported], ['denied', RULES.noCredentials]] as const)(
    'that fails for good (%s) is not',
    async (name, rule) => {
      const harness = new Harness();
      const error = await failureOf(harness.run(() => Promise.reject(failure(rule))));
      expect({ failure: error.failure, tries: harness.startedMs.length }).toEqual({ failure: name, tries: 1 });
    },
  );

  test('is given up after its tries, and says how many there were', async () => {
    const harness = new Harness();
    const call = failureOf(harness.run(() => Promise.reject(failure(RULES.throttled))));
    await harness.advance(10_000);
    const error = await call;
    expect({ failure: error.failure, code: error.code, tries: harness.startedMs.length }).toEqual({ failure: 'throttled', code: 'unavailable', tries: 5 });
    expect(error.message).toMatch(/given up after 5 tries in \d+ ms/u);
    expect(error.message).toContain('s3://b/k at http://store');
  });

  test('that is patient is tried until its time is over, however often that is', async () => {
    const harness = new Harness();
    const call = harness.run(({ number }) => (number < 30 ? Promise.reject(failure(RULES.transient)) : Promise.resolve(number)), { isPatient: true });
    await harness.advance(50_000);
    expect(await call).toBe(30);
    const end = failureOf(harness.run(() => Promise.reject(failure(RULES.transient)), { isPatient: true, timeoutMs: 20_000 }));
    await harness.advance(20_000);
    expect((await end).message).toMatch(/given up after 1[0-9] tries/u);
  });

  test('does not wait past its deadline for another try', async () => {
    const harness = new Harness();
    const call = failureOf(harness.run(() => Promise.reject(failure(RULES.throttled)), { timeoutMs: 1200 }));
    await harness.advance(1200);
    expect((await call).message).toMatch(/given up after 2 tries in 5\d\d ms/u); // the third would begin after 1500 ms
  });

  test('ends a try that takes too long, and tries again', async () => {
    const harness = new Harness();
    const call = harness.run(({ number }) => (number === 1 ? new Promise<number>(() => undefined) : Promise.resolve(number)));
    await harness.advance(9_990);
    expect(harness.attempts[0]?.signal.aborted).toBe(false);
    await harness.advance(200);
    expect(harness.attempts[0]?.signal.aborted).toBe(true);
    expect(await call).toBe(2);
  });

  test('ends with its deadline although its tries never do', async () => {
    const harness = new Harness();
    const call = failureOf(harness.run(() => new Promise<number>(() => undefined), { timeoutMs: 25_000 }));
    await harness.advance(25_000);
    const error = await call;
    expect({ failure: error.failure, code: error.code }).toEqual({ failure: 'transient', code: 'unavailable' });
    expect(harness.clock.nowMs()).toBeLessThanOrEqual(25_000);
    expect(harness.clock.pendingTimers).toBe(0);
  });

  test('ends with its signal: before it, in a try, and between tries', async () => {
    const harness = new Harness();
    expect((await failureOf(harness.run(() => Promise.resolve(1), { signals: [AbortSignal.abort()] }))).failure).toBe('cancelled');
    expect(harness.startedMs).toEqual([]);

    const inTry = new AbortController();
    const held = failureOf(harness.run(() => new Promise<number>(() => undefined), { signals: [inTry.signal] }));
    await settleMicrotasks();
    inTry.abort();
    expect((await held).code).toBe('closed');
    expect(harness.attempts[0]?.signal.aborted).toBe(true);

    const between = new AbortController();
    const waiting = failureOf(harness.run(() => Promise.reject(failure(RULES.throttled)), { signals: [new AbortController().signal, between.signal] }));
    await harness.advance(100);
    between.abort();
    expect((await waiting).failure).toBe('cancelled');
    expect(harness.startedMs).toHaveLength(2); // one of each of the last two
  });
});

describe('listeners of signals', () => {
  test('are any number, called once, and not after they were taken back', () => {
    const listeners = new AbortListeners();
    const controller = new AbortController();
    const called: number[] = [];
    const ends = Array.from({ length: 50 }, (_, index) => listeners.add(controller.signal, () => void called.push(index)));
    for (const end of ends.slice(3)) end();
    controller.abort();
    controller.abort();
    expect(called).toEqual([0, 1, 2]);
  });
});
