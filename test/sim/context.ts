/** Whom the running code works for: a client's request, or a scrub. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { ChangeRequest } from './model.ts';
import type { ScrubRun } from './scrub-run.ts';

interface Work {
  readonly request: ChangeRequest | null;
  readonly scrub: ScrubRun | null;
}

/** One for all worlds: node visits every storage that was ever used at each promise. */
const CONTEXT = new AsyncLocalStorage<Work>();

export function withinRequest<T>(request: ChangeRequest, action: () => T): T {
  return CONTEXT.run({ request, scrub: null }, action);
}

export function withinScrub<T>(scrub: ScrubRun, action: () => T): T {
  return CONTEXT.run({ request: null, scrub }, action);
}

export function currentRequest(): ChangeRequest | null {
  return CONTEXT.getStore()?.request ?? null;
}

export function currentScrub(): ScrubRun | null {
  return CONTEXT.getStore()?.scrub ?? null;
}
