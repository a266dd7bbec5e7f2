/**
 * Trying again: full jitter, a limit of tries, a deadline. Time and chance come from the Env, so that tests and the simulator decide both.
 *
 * Full jitter (a delay drawn evenly from nothing up to the limit of the try, which doubles) is what spreads many clients of one store that failed
 * them all at once; see "Exponential Backoff And Jitter", AWS Architecture Blog.
 */
import { deferred, type AbortListeners } from '../base/async.ts';
import type { RetrySettings } from '../base/settings-types.ts';
import type { Clock, Env, Random } from '../env/env.ts';
import { RULES, RemoteError, remoteError, toRemoteError, type RemoteRequest } from './remote-errors.ts';

/** What of an Env retries need. */
export type RetryWorld = Pick<Env, 'clock' | 'random' | 'logger'>;

/** In [0, 1). */
export function drawUnit(random: Random): number {
  const bytes = new Uint8Array(4);
  random.fill(bytes);
  return new DataView(bytes.buffer).getUint32(0) / 2 ** 32;
}

/** How long to wait before try `attempt` + 1, after try `attempt` (from 1) failed. */
export function retryDelayMs(settings: RetrySettings, attempt: number, isThrottled: boolean, unit: number): number {
  const first = isThrottled ? settings.throttledDelayMs : settings.delayMs;
  return unit * Math.min(settings.delayMsMax, first * 2 ** (attempt - 1));
}

export interface Attempt {
  /** From 1. */
  readonly number: number;
  /** Aborts when the try has taken too long, or the call was ended. */
  readonly signal: AbortSignal;
}

export interface RetriedCall<T> {
  readonly request: RemoteRequest;
  /** For all tries together; null: that of the settings. */
  readonly timeoutMs: number | null;
  /** The limit of tries does not count, only that of time. */
  readonly isPatient: boolean;
  /** Each of them ends the call. */
  readonly signals: readonly AbortSignal[];
  readonly listeners: AbortListeners;
  readonly run: (attempt: Attempt) => Promise<T>;
  readonly onRetry: () => void;
}

/** Runs a call until it succeeds, fails for good, or has no tries or time left. Settles in time even if a try never does. */
export async function retry<T>(world: RetryWorld, settings: RetrySettings, call: RetriedCall<T>): Promise<T> {
  const { clock, random, logger } = world;
  const startMs = clock.nowMs();
  const deadlineMs = startMs + (call.timeoutMs ?? settings.callTimeoutMs);
  for (let number = 1; ; number += 1) {
    const leftMs = deadlineMs - clock.nowMs();
    const failure = await attemptOnce(clock, call, number, Math.min(settings.attemptTimeoutMs, leftMs));
    if ('value' in failure) return failure.value;
    const { error } = failure;
    if (!error.isRetryable) throw error;
    const delayMs = retryDelayMs(settings, number, error.failure === 'throttled', drawUnit(random));
    // A delay that reaches past the deadline is not waited for: the error is told while it is of use.
    if ((number >= settings.attempts && !call.isPatient) || clock.nowMs() + delayMs >= deadlineMs) throw gaveUp(error, call.request, number, clock.nowMs() - startMs);
    logger.log('debug', 'remote-retry', { message: error.message, attempt: number, delayMs });
    call.onRetry();
    await sleepUnlessAborted(clock, delayMs, call);
  }
}

function cancelled(request: RemoteRequest): RemoteError {
  return remoteError(RULES.cancelled, request, 'aborted', 'ended before it was done');
}

/** One try. It is not waited for any longer when its time is over. */
async function attemptOnce<T>(clock: Clock, call: RetriedCall<T>, number: number, timeoutMs: number): Promise<{ readonly value: T } | { readonly error: RemoteError }> {
  if (call.signals.some((signal) => signal.aborted)) return { error: cancelled(call.request) };
  const controller = new AbortController();
  const ended = deferred<{ readonly error: RemoteError }>();
  const end = (error: RemoteError): void => {
    ended.resolve({ error });
    controller.abort(error);
  };
  const timer = clock.setTimer(Math.max(0, timeoutMs), () => end(remoteError(RULES.timedOut, call.request, 'timeout', `no answer within ${Math.round(timeoutMs)} ms`)));
  const stopListening = listen(call, () => end(cancelled(call.request)));
  try {
    const run = call.run({ number, signal: controller.signal }).then(
      (value) => ({ value }),
      (error: unknown) => ({ error: toRemoteError(error, call.request) }),
    );
    return await Promise.race([run, ended.promise]);
  } finally {
    timer.cancel();
    stopListening();
  }
}

/** Calls `onAbort` when one of the signals aborts; what it returns ends that. */
function listen({ signals, listeners }: Pick<RetriedCall<unknown>, 'signals' | 'listeners'>, onAbort: () => void): () => void {
  const ends = signals.map((signal) => listeners.add(signal, onAbort));
  return () => {
    for (const end of ends) end();
  };
}

/** By `sleep`, not by a timer: while a call waits for its next try nothing else may keep the process alive. */
async function sleepUnlessAborted<T>(clock: Clock, delayMs: number, call: RetriedCall<T>): Promise<void> {
  const aborted = deferred<never>();
  const stopListening = listen(call, () => aborted.reject(cancelled(call.request)));
  try {
    await Promise.race([clock.sleep(delayMs), aborted.promise]);
  } finally {
    stopListening();
  }
}

function gaveUp(error: RemoteError, request: RemoteRequest, attempts: number, tookMs: number): RemoteError {
  const tries = attempts === 1 ? 'one try' : `${attempts} tries`;
  const message = `${error.message} (given up after ${tries} in ${Math.round(tookMs)} ms)`;
  return new RemoteError(error, message, { ...request, word: error.word, cause: error });
}
