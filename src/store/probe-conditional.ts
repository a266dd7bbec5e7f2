/**
 * Whether a store's put-if-absent is one, found out by a race. What a store says of itself is no proof: some ignore the condition (200, and the object is overwritten), and
 * one (OpenStack Swift 2.38) refuses a second create that comes later and lets all of several at the same time win. An epoch that two
 * hosts take at once is two owners of one volume.
 */
import type { Env, Random } from '../env/env.ts';
import { RemoteError } from './remote-errors.ts';
import type { CallOptions, RemoteStore } from './remote-store.ts';

/** Creates of one key at a time, and how often that is done: a single race may happen to be run one after another. */
const RACERS = 8;
const ROUNDS = 3;
const BODY_BYTES = 32;

/** `refused`: the store says that it has no such write. `ignored`: a second create overwrote the first. `several-winners`: only of those at the same time. */
export type NoConditionReason = 'refused' | 'ignored' | 'several-winners';

export type ConditionalWrites =
  | { readonly support: 'full' }
  | { readonly support: 'none'; readonly reason: NoConditionReason; readonly message: string };

/**
 * Races creates of new keys that begin with `keyPrefix` (`probe-`, say), and removes them. Takes about 30 requests. Rejects with a RemoteError when the
 * store cannot be asked (denied, unavailable): then nothing is known.
 */
export async function probeConditionalWrites(store: RemoteStore, env: Pick<Env, 'random' | 'logger'>, keyPrefix: string, options: CallOptions = {}): Promise<ConditionalWrites> {
  const name = drawHex(env.random, 16);
  const keys = Array.from({ length: ROUNDS }, (_, round) => `${keyPrefix}${name}-${round}`);
  try {
    for (const key of keys) {
      const found = await probeKey(store, env.random, key, options);
      if (found.support === 'none') return found;
    }
    return { support: 'full' };
  } finally {
    // What was found is right whether or not this succeeds.
    await store.remove(keys, options).catch((error: unknown) => env.logger.log('warn', 'probe-left-behind', { error, keys }));
  }
}

async function probeKey(store: RemoteStore, random: Random, key: string, options: CallOptions): Promise<ConditionalWrites> {
  const bodies = Array.from({ length: RACERS + 1 }, () => drawBytes(random, BODY_BYTES));
  const racers = bodies.slice(0, RACERS);
  // A racer that is refused must not leave the others running: all are waited for.
  const results = await Promise.allSettled(racers.map((body) => store.putIfAbsent(key, [body], options)));
  for (const result of results) {
    if (result.status === 'fulfilled') continue;
    if (result.reason instanceof RemoteError && result.reason.code === 'unsupported') return none(store, 'refused', `it answers ${result.reason.word}`);
    throw result.reason;
  }
  const winners = racers.filter((_, index) => isCreated(results[index]));
  const late = bodies[RACERS] ?? new Uint8Array(BODY_BYTES);
  if ((await store.putIfAbsent(key, [late], options)) === 'created') return none(store, 'ignored', 'a create of what was there overwrote it');
  const stored = await store.getWhole(key, BODY_BYTES, options);
  const [winner] = winners;
  if (winners.length === 1 && winner !== undefined && Buffer.compare(winner, stored) === 0) return { support: 'full' };
  return none(store, 'several-winners', `of ${RACERS} creates of one key at the same time ${winners.length} were told that they won`);
}

function isCreated(result: PromiseSettledResult<string> | undefined): boolean {
  return result?.status === 'fulfilled' && result.value === 'created';
}

function none(store: RemoteStore, reason: NoConditionReason, what: string): ConditionalWrites {
  const { bucket, endpoint } = store.place;
  return { support: 'none', reason, message: `the store at ${endpoint} (bucket ${bucket}) has no conditional writes: ${what}; nothing in it can keep two hosts from writing one volume` };
}

function drawBytes(random: Random, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  random.fill(bytes);
  return bytes;
}

function drawHex(random: Random, digits: number): string {
  return Buffer.from(drawBytes(random, digits / 2)).toString('hex');
}
