import { describe, expect, test } from 'vitest';
import { NO_LIMITS, type VolumeLimits } from '../../src/base/volume-limits.ts';
import { NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE } from '../../src/protocol/constants.ts';
import { ThrottleTable, TokenBucket, VolumeThrottle } from '../../src/session/throttle.ts';
import { ManualClock } from '../support/fake-world.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { SessionDriver, settled, testResources } from '../support/session-driver.ts';

const KIB = 1024;

describe('a bucket', () => {
  test('gives a burst at once, and its rate from then on', () => {
    const bucket = new TokenBucket({ perSecond: 100, burst: 5, nowMs: 1000 });
    for (let taken = 0; taken < 5; taken += 1) {
      expect(bucket.delayMs(1, 1000)).toBe(0);
      bucket.take(1);
    }
    expect(bucket.delayMs(1, 1000)).toBeCloseTo(10);
    expect(bucket.delayMs(1, 1009)).toBeCloseTo(1);
    expect(bucket.delayMs(1, 1010)).toBe(0);
  });

  test('saves up no more than a burst', () => {
    const bucket = new TokenBucket({ perSecond: 100, burst: 5, nowMs: 0 });
    expect(bucket.delayMs(5, 1e6)).toBe(0);
    bucket.take(5);
    expect(bucket.delayMs(1, 1e6)).toBeCloseTo(10);
  });

  test('lets what is larger than a burst pass when it is full, and makes the next ones wait for it', () => {
    const bucket = new TokenBucket({ perSecond: 1000, burst: 100, nowMs: 0 });
    expect(bucket.delayMs(4000, 0)).toBe(0);
    bucket.take(4000);
    expect(bucket.delayMs(1, 0)).toBeCloseTo(3901);
    expect(bucket.delayMs(4000, 0)).toBeCloseTo(4000);
  });
});

const limits = (changes: Partial<VolumeLimits>): VolumeLimits => ({ ...NO_LIMITS, ...changes });

/** A connection that always has one more request, of `lengthBytes`. */
class Asker {
  readonly throttle: VolumeThrottle;
  readonly lengthBytes: number;
  passed = 0;
  ends = Number.POSITIVE_INFINITY;

  constructor(throttle: VolumeThrottle, lengthBytes = 0) {
    this.throttle = throttle;
    this.lengthBytes = lengthBytes;
  }

  readonly ask = (): void => {
    while (this.passed < this.ends && this.throttle.admits(this.lengthBytes, this.ask)) this.passed += 1;
  };
}

describe('the throttle of a volume', () => {
  test('holds all connections together to the rate, and lets them take turns', () => {
    const clock = new ManualClock();
    const throttle = new VolumeThrottle(clock);
    throttle.set(limits({ operationsPerSecond: 100, burstOperations: 10 }));
    const askers = [1, 2, 3].map(() => new Asker(throttle));
    for (const { ask } of askers) ask();
    expect(askers.map(({ passed }) => passed)).toEqual([10, 0, 0]);
    clock.advance(30_000);
    const counts = askers.map(({ passed }) => passed);
    expect(counts.reduce((sum, count) => sum + count)).toBe(3010);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(10);
    expect(clock.pendingTimers).toBe(1);
  });

  test('holds the bytes to theirs, whatever the requests are like', () => {
    const clock = new ManualClock();
    const throttle = new VolumeThrottle(clock);
    throttle.set(limits({ bytesPerSecond: 1024 * KIB, burstBytes: 64 * KIB }));
    const askers = [4 * KIB, 256 * KIB, 100].map((lengthBytes) => new Asker(throttle, lengthBytes));
    for (const { ask } of askers) ask();
    clock.advance(10_000);
    const bytes = askers.reduce((sum, { passed, lengthBytes }) => sum + passed * lengthBytes, 0);
    expect(bytes).toBeGreaterThan(10 * 1024 * KIB - 256 * KIB);
    expect(bytes).toBeLessThanOrEqual(10 * 1024 * KIB + 64 * KIB + 256 * KIB);
  });

  test('gives the turn of a connection that goes to the next one', () => {
    const clock = new ManualClock();
    const throttle = new VolumeThrottle(clock);
    throttle.set(limits({ operationsPerSecond: 1, burstOperations: 1 }));
    const [first, second, third] = [1, 2, 3].map(() => new Asker(throttle));
    first.ask();
    second.ask();
    third.ask();
    throttle.leave(second.ask);
    clock.advance(2000); // first waits in front of third
    expect([first.passed, second.passed, third.passed]).toEqual([2, 0, 1]);
    for (const { ask } of [first, third]) throttle.leave(ask);
    clock.advance(1000);
    expect(clock.pendingTimers).toBe(0);
  });

  test('does not let those behind a connection that goes wait for as long as it would have waited', () => {
    const clock = new ManualClock();
    const throttle = new VolumeThrottle(clock);
    throttle.set(limits({ bytesPerSecond: 1024 * KIB, burstBytes: 65_536 * KIB }));
    const [last, large, small] = [65_536 * KIB, 32_768 * KIB, 4 * KIB].map((lengthBytes) => new Asker(throttle, lengthBytes));
    last.ends = 1;
    for (const { ask } of [last, large, small]) ask();
    clock.advance(100);
    throttle.leave(large.ask);
    expect(small.passed).toBe(25); // 100 KiB; the large one would have waited for 32 s
    expect(clock.pendingTimers).toBe(1);
  });

  test('keeps the turn for who was called, until he takes it or gives it on', () => {
    const clock = new ManualClock();
    const throttle = new VolumeThrottle(clock);
    throttle.set(limits({ operationsPerSecond: 1, burstOperations: 1 }));
    const called: string[] = [];
    const wakes = ['a', 'b', 'c'].map((name) => () => void called.push(name));
    expect(throttle.admits(0, () => undefined)).toBe(true);
    for (const wake of wakes) expect(throttle.admits(0, wake)).toBe(false);
    clock.advance(1000);
    expect(called).toEqual(['a']);
    expect(throttle.admits(0, wakes[2])).toBe(false);
    throttle.leave(wakes[0]);
    expect(called).toEqual(['a', 'b']);
    expect(throttle.admits(0, wakes[1])).toBe(true);
  });

  test('takes new limits at once, also from those that wait', () => {
    const clock = new ManualClock();
    const throttle = new VolumeThrottle(clock);
    throttle.set(limits({ operationsPerSecond: 1, burstOperations: 1 }));
    const asker = new Asker(throttle);
    asker.ends = 1000;
    asker.ask();
    expect(asker.passed).toBe(1);
    throttle.set(NO_LIMITS);
    expect(asker.passed).toBe(1000);
    expect(throttle.isOff).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });
});

class World {
  readonly device = new MemoryDevice();
  readonly clock = new ManualClock();
  readonly directory = new MemoryDirectory(this.device);
  readonly resources = testResources(this.directory, {}, () => this.clock.nowMs(), this.clock);
  driver = new SessionDriver(this.resources);

  async open(changes: Partial<VolumeLimits>): Promise<SessionDriver> {
    this.directory.limits = limits(changes);
    await this.driver.goWith('structured');
    return this.driver;
  }

  /** Lets time pass, a millisecond at a time: sessions get on in between. */
  async pass(durationMs: number): Promise<void> {
    for (let passed = 0; passed < durationMs; passed += 1) {
      this.clock.advance(1);
      await settled();
    }
  }

  get throttled(): number {
    return this.resources.traffic.find('disk')?.throttled ?? 0;
  }
}

const write = (driver: SessionDriver, value: number): Buffer => driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(512, value) });
const reads = (driver: SessionDriver, count: number): Buffer => Buffer.concat(Array.from({ length: count }, () => driver.encode({ command: NBD_CMD_READ, offset: 0, length: 512 })));

describe('a session', () => {
  test('answers no more requests than the limit lets it, in their order, and counts those that waited', async () => {
    const world = new World();
    const driver = await world.open({ operationsPerSecond: 100, burstOperations: 4 });
    driver.feed(reads(driver, 10));
    await settled();
    expect(driver.takeReplies()).toHaveLength(4);
    expect(world.throttled).toBe(1);
    await world.pass(30);
    expect(driver.takeReplies()).toHaveLength(3);
    await world.pass(40);
    expect(driver.takeReplies()).toHaveLength(3);
    expect(world.throttled).toBe(6);
    expect(driver.outstandingCount).toBe(0);
  });

  test('waits with a write before its payload arrives, and holds up neither flushes of others nor trims beyond their count', async () => {
    const world = new World();
    const driver = await world.open({ bytesPerSecond: 64 * KIB, burstBytes: 64 * KIB });
    const other = new SessionDriver(world.resources);
    await other.go('disk');
    const replies = await driver.exchange({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(128 * KIB, 1) }, { command: NBD_CMD_TRIM, offset: 0, length: 65_536 }, { command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(64 * KIB, 2) });
    // The trim moves nothing, but comes behind what does.
    expect(replies).toHaveLength(1);
    expect(await other.errorOf({ command: NBD_CMD_FLUSH })).toBe(0);
    expect(driver.session.wantsInput).toBe(false);
    await world.pass(1000);
    expect(driver.takeReplies()).toHaveLength(1);
    await world.pass(1001);
    expect(driver.takeReplies()).toHaveLength(1);
    expect(world.device.data[0]).toBe(2);
  });

  test('gets on at once when the limit goes, and when the server stops', async () => {
    const world = new World();
    const driver = await world.open({ operationsPerSecond: 1, burstOperations: 1 });
    driver.feed(reads(driver, 3));
    await settled();
    expect(driver.takeReplies()).toHaveLength(1);
    world.resources.throttles.changed('disk', NO_LIMITS);
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([0, 0]);
    world.resources.throttles.changed('disk', limits({ operationsPerSecond: 1, burstOperations: 1 }));
    driver.feed(reads(driver, 3));
    await settled();
    driver.session.shutdown();
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([0, 108, 108]);
  });

  test('that is gone gives its turn away, and one that cannot use it lets others', async () => {
    const world = new World();
    const driver = await world.open({ operationsPerSecond: 10, burstOperations: 1 });
    const second = new SessionDriver(world.resources);
    await second.goWith('structured');
    driver.feed(reads(driver, 3));
    second.feed(reads(second, 3));
    await settled();
    driver.disconnect();
    await world.pass(301);
    expect(second.takeReplies()).toHaveLength(3);
    expect(world.clock.pendingTimers).toBe(0);
  });

  // The kernel's client leaves a connection (FIN) of which an answer is overdue, by default after 5 s, sends what is unanswered again on another one, and then newer writes.
  test.each([
    ['whose end of the stream is read', (driver: SessionDriver): void => driver.session.inputEnded()],
    ['whose end of the stream is behind what is not read', (driver: SessionDriver): void => void (driver.isLeft = true)],
  ] as const)('of a client that has left, %s, carries out nothing behind newer writes of another connection', async (_, leave) => {
    const world = new World();
    const driver = await world.open({ operationsPerSecond: 10, burstOperations: 1 });
    driver.feed(Buffer.concat([write(driver, 1), write(driver, 1), write(driver, 1)]));
    await settled();
    leave(driver);
    const second = new SessionDriver(world.resources);
    await second.go('disk');
    second.feed(write(second, 2));
    await world.pass(201);
    expect(second.takeReplies()).toHaveLength(1);
    expect(driver.finished).toBe('in order');
    expect(driver.isReleased).toBe(true);
    expect(driver.events).toContainEqual({ kind: 'left-waiting' });
    await world.pass(200);
    expect(driver.takeReplies()).toHaveLength(1);
    expect(world.device.data[0]).toBe(2);
    expect(world.clock.pendingTimers).toBe(0);
  });

  test('of a client that has left carries out nothing that is read only later, either', async () => {
    const world = new World();
    const driver = await world.open({ operationsPerSecond: 10, burstOperations: 1 });
    driver.readBytesMax = 3 * 540; // three requests a read: two more reads than one
    driver.feed(Buffer.concat(Array.from({ length: 9 }, () => write(driver, 1))));
    await settled();
    expect(driver.unreadBytes).toBe(6 * 540);
    await world.pass(250); // the rest of the first read is taken, and more is read
    expect(driver.takeReplies()).toHaveLength(3);
    driver.isLeft = true;
    await world.pass(1000);
    expect(driver.takeReplies()).toHaveLength(0);
    expect(driver.finished).toBe('in order');
  });

  test('of a client that has just left is carried out: nobody can have sent it again', async () => {
    const world = new World();
    const driver = await world.open({ operationsPerSecond: 100, burstOperations: 1 });
    driver.feed(Buffer.concat([write(driver, 1), write(driver, 3)]));
    driver.session.inputEnded();
    await world.pass(11);
    expect(driver.takeReplies()).toHaveLength(2);
    expect(driver.finished).toBe('in order');
    expect(world.device.data[0]).toBe(3);
  });

  test('looks for its client only while something waits', async () => {
    const world = new World();
    const driver = await world.open({ operationsPerSecond: 10, burstOperations: 1 });
    driver.feed(reads(driver, 2));
    await world.pass(101);
    expect(driver.takeReplies()).toHaveLength(2);
    let looks = 0;
    driver.hasLeft = (): boolean => (looks += 1) === 0;
    await world.pass(1000);
    driver.feed(reads(driver, 1)); // the read that finds the socket empty: what came with it may be as old as what waited
    await settled();
    expect(looks).toBe(1);
    await world.pass(1000);
    driver.feed(reads(driver, 1));
    await settled();
    expect(looks).toBe(1);
    expect(driver.takeReplies()).toHaveLength(2);
  });

  test('costs a volume without limits no look at the clock', async () => {
    const world = new World();
    const driver = await world.open({});
    let looks = 0;
    world.clock.nowMs = () => (looks += 1);
    const table = new ThrottleTable(world.clock);
    expect(table.of('disk', NO_LIMITS).isOff).toBe(true);
    expect(looks).toBe(0);
    expect(await driver.exchange({ command: NBD_CMD_READ, offset: 0, length: 512 })).toHaveLength(1);
    expect(world.throttled).toBe(0);
  });
});
