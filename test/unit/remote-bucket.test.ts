/** The simulated bucket: as any store without faults, and the store on it under faults, from many seeds. */
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../src/env/env.ts';
import { probeConditionalWrites } from '../../src/store/probe-conditional.ts';
import { RULES, RemoteError } from '../../src/store/remote-errors.ts';
import type { RemoteStore } from '../../src/store/remote-store.ts';
import { RetryingStore } from '../../src/store/retrying-store.ts';
import { SeededRandom } from '../sim/random.ts';
import { BucketTransport, NO_FAULTS, RemoteBucket, schedulerClock, type BucketOptions, type RemoteFaults } from '../sim/remote-bucket.ts';
import { Scheduler } from '../sim/scheduler.ts';
import { collect, describeContract, expectFailure, failureOf, pattern } from '../support/remote-contract.ts';

const RETRIES = { attempts: 8, delayMs: 50, throttledDelayMs: 200, delayMsMax: 2000, attemptTimeoutMs: 1000, callTimeoutMs: 20_000 };
const quiet = { log: (): void => undefined };

/** Virtual time, a bucket and clients of it. */
class World {
  readonly scheduler = new Scheduler();
  readonly random: SeededRandom;
  readonly bucket: RemoteBucket;
  readonly clock: Clock;

  constructor(seed: number, options: Partial<BucketOptions> = {}) {
    this.random = new SeededRandom(seed);
    this.clock = schedulerClock(this.scheduler);
    const random = this.random.derive('bucket');
    this.bucket = new RemoteBucket({ clock: this.clock, random, latencyMsMin: 1, latencyMsMax: 30, lateMsMax: 5000, pageObjects: 7, conditions: 'full', ...options });
  }

  client(name: string): RemoteStore {
    return new RetryingStore(new BucketTransport(this.bucket, this.clock), { clock: this.clock, random: this.random.derive(name), logger: quiet }, RETRIES);
  }

  run<T>(task: () => Promise<T>): Promise<T> {
    return this.scheduler.drive(task);
  }
}

const shared = new World(1);
const refusing = new World(2, { conditions: 'refused' });
describeContract('a bucket in memory', { open: () => Promise.resolve(shared.client('one')), conditional: 'full', manyObjects: 50, run: (call) => shared.run(call) });
describeContract('one without conditional writes', { open: () => Promise.resolve(refusing.client('one')), conditional: 'refused', manyObjects: 5, run: (call) => refusing.run(call) });

const SEEDS = Array.from({ length: 60 }, (_, index) => index + 1);
const BAD: RemoteFaults = { failing: 0.08, throttling: 0.05, lostRequest: 0.05, lostAnswer: 0.15, lateRequest: 0.1, cutBody: 0.1, flippedBit: 0 };

describe('under faults', () => {
  test('of racing hosts at most one is told that it created a key, its bytes stand, and nobody who was told "exists" owns them', async () => {
    let created = 0;
    let unknown = 0;
    for (const seed of SEEDS) {
      const world = new World(seed);
      world.bucket.faults = BAD;
      await world.run(async () => {
        const hosts = ['a', 'b', 'c'].map((name) => world.client(name));
        for (let epoch = 0; epoch < 10; epoch += 1) {
          const bodies = hosts.map((_, host) => pattern(40, seed * 100 + epoch * 10 + host));
          const outcomes = await Promise.all(hosts.map((host, index) => host.putIfAbsent(`epoch/${epoch}`, [bodies[index] ?? new Uint8Array(0)]).catch(unavailable)));
          const stored = world.bucket.objects.get(`epoch/${epoch}`)?.bytes;
          const owner = bodies.findIndex((body) => stored !== undefined && Buffer.compare(body, stored) === 0);
          const told = outcomes.flatMap((outcome, host) => (outcome === 'created' ? [host] : []));
          expect(told.length === 0 || (told.length === 1 && told[0] === owner), `seed ${seed}, epoch ${epoch}: ${outcomes.join(' ')}, owner ${owner}`).toBe(true);
          expect(owner === -1 ? 'none' : outcomes[owner], `seed ${seed}, epoch ${epoch}`).not.toBe('exists');
          created += told.length;
          unknown += outcomes.filter((outcome) => outcome === 'unknown').length;
        }
      });
    }
    expect(created).toBeGreaterThan(SEEDS.length * 9); // the faults are survived, not only told
    expect(unknown).toBeGreaterThan(0);
  });

  test('what was put is read back whole, or the call fails in time', async () => {
    let failed = 0;
    for (const seed of SEEDS) {
      const world = new World(seed);
      world.bucket.faults = BAD;
      await world.run(async () => {
        const store = world.client('one');
        for (let i = 0; i < 20; i += 1) {
          const startMs = world.clock.nowMs();
          const body = pattern(500, seed + i);
          try {
            await store.put(`o/${i}`, [body]);
            const target = new Uint8Array(100);
            await store.getRange(`o/${i}`, target, 300);
            expect(Buffer.compare(target, body.subarray(300, 400)), `seed ${seed}`).toBe(0);
          } catch (error) {
            unavailable(error);
            failed += 1;
          }
          expect(world.clock.nowMs() - startMs).toBeLessThan(2 * RETRIES.callTimeoutMs + 1);
        }
        world.bucket.faults = NO_FAULTS;
        expect(new Set((await collect(store, 'o/')).map(({ key }) => key)).size).toBeGreaterThan(15);
      });
    }
    expect(failed).toBeLessThan(SEEDS.length);
  });

  test('one seed is one history', async () => {
    expect(await history(77)).toBe(await history(77));
    expect(await history(77)).not.toBe(await history(78));
  });

  test('a flipped bit passes: only checksums within the object find it', async () => {
    const world = new World(5);
    await world.run(async () => {
      const store = world.client('one');
      await store.put('a', [new Uint8Array(100)]);
      world.bucket.faults = { ...NO_FAULTS, flippedBit: 1 };
      const read = await store.getWhole('a', 100);
      expect(read.reduce((sum, byte) => sum + byte, 0)).toBeGreaterThan(0);
    });
  });

  test('an uplink that is down fails calls at their deadline, and later ones work again', async () => {
    const world = new World(6);
    await world.run(async () => {
      const store = world.client('one');
      world.bucket.isDown = true;
      await expectFailure(store.put('a', [pattern(10, 1)], { timeoutMs: 3000 }), 'transient', /no answer within .*given up after/u);
      expect(world.clock.nowMs()).toBeLessThanOrEqual(3000);
      world.bucket.isDown = false;
      await store.put('a', [pattern(10, 1)]);
      expect(await store.head('a')).toBe(10);
    });
  });

  test('a refusal is told at once, with what to do', async () => {
    const world = new World(7);
    await world.run(async () => {
      const store = world.client('one');
      world.bucket.refusal = RULES.noCredentials;
      await expectFailure(store.put('a', [pattern(10, 1)]), 'denied', /credentials/u);
      expect(store.counters.retries).toBe(0);
      store.close();
      await expect(store.head('a')).rejects.toMatchObject({ code: 'closed' });
    });
  });

  test('calls that run when the store is closed end', async () => {
    const world = new World(8);
    await world.run(async () => {
      const store = world.client('one');
      const call = failureOf(store.put('a', [pattern(10, 1)]));
      store.close();
      expect((await call).code).toBe('closed');
    });
  });
});

function history(seed: number): Promise<string> {
  const world = new World(seed);
  world.bucket.faults = BAD;
  return world.run(async () => {
    const store = world.client('one');
    for (let i = 0; i < 30; i += 1) await store.put(`o/${i}`, [pattern(10, i)]).catch(unavailable);
    return JSON.stringify([world.clock.nowMs(), store.counters, [...world.bucket.objects.keys()]]);
  });
}

/** Bodies that are all alike: what stands is everybody's. */
const constantRandom = { fill: (target: Uint8Array): Uint8Array => target.fill(7) };

/** A store that does some calls in another way. */
function changed(store: RemoteStore, changes: Partial<RemoteStore>): RemoteStore {
  return {
    place: store.place,
    counters: store.counters,
    put: (...call) => store.put(...call),
    putIfAbsent: (...call) => store.putIfAbsent(...call),
    getRange: (...call) => store.getRange(...call),
    getWhole: (...call) => store.getWhole(...call),
    head: (...call) => store.head(...call),
    list: (...call) => store.list(...call),
    remove: (...call) => store.remove(...call),
    close: () => store.close(),
    ...changes,
  };
}

function unavailable(error: unknown): 'unknown' {
  if (error instanceof RemoteError && (error.code === 'unavailable' || error.code === 'corrupt')) return 'unknown';
  throw error;
}

describe('the race for conditional writes', () => {
  test.each([
    ['full', 'full', null],
    ['refused', 'none', 'refused'],
    ['ignored', 'none', 'ignored'],
    ['racy', 'none', 'several-winners'],
  ] as const)('finds a store that is %s', async (conditions, support, reason) => {
    // Latencies such that the racers meet, and the late one comes when a racy store refuses.
    const world = new World(9, { conditions, latencyMsMin: 40, latencyMsMax: 60 });
    await world.run(async () => {
      const store = world.client('one');
      const found = { reason: null, message: '', ...(await probeConditionalWrites(store, { random: world.random, logger: quiet }, 'probe-')) };
      expect({ support: found.support, reason: found.reason }).toEqual({ support, reason });
      expect(support === 'full' || found.message.includes('store at memory')).toBe(true);
      expect([...world.bucket.objects.keys()]).toEqual([]);
    });
  });

  test('is right under faults, or fails', async () => {
    for (const seed of SEEDS) {
      for (const conditions of ['full', 'ignored'] as const) {
        const world = new World(seed, { conditions });
        world.bucket.faults = { ...BAD, lateRequest: 0 };
        const found = await world.run(() => probeConditionalWrites(world.client('one'), { random: world.random, logger: quiet }, 'probe-').catch(unavailable));
        expect(found === 'unknown' || found.support === (conditions === 'full' ? 'full' : 'none'), `seed ${seed}, ${conditions}: ${JSON.stringify(found)}`).toBe(true);
      }
    }
  });

  test('finds a store that keeps the first of several at a time, and tells all that they won', async () => {
    const world = new World(12);
    const honest = world.client('one');
    let creates = 0;
    const putIfAbsent: RemoteStore['putIfAbsent'] = async (...call) => {
      creates += 1;
      const isRacer = creates % 9 !== 0;
      const outcome = await honest.putIfAbsent(...call);
      return isRacer ? 'created' : outcome;
    };
    const found = await world.run(() => probeConditionalWrites(changed(honest, { putIfAbsent }), { random: constantRandom, logger: quiet }, 'probe-'));
    expect(found).toMatchObject({ support: 'none', reason: 'several-winners' });
  });

  test('is told apart from a store that cannot be asked', async () => {
    const world = new World(10);
    world.bucket.refusal = RULES.noCredentials;
    await world.run(() => expectFailure(probeConditionalWrites(world.client('one'), { random: world.random, logger: quiet }, 'probe-'), 'denied', /credentials/u));
  });

  test('says what it left behind when it cannot clean up', async () => {
    const world = new World(11);
    const logged: string[] = [];
    const store = changed(world.client('one'), { remove: () => Promise.reject(new Error('no')) });
    const found = await world.run(() => probeConditionalWrites(store, { random: world.random, logger: { log: (_level, event) => void logged.push(event) } }, 'probe-'));
    expect({ found, logged }).toEqual({ found: { support: 'full' }, logged: ['probe-left-behind'] });
  });
});
