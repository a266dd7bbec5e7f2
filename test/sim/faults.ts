/** What can go wrong with one call of the simulated file system. A policy is asked at every call. */

export type FileCallKind =
  | 'open'
  | 'create'
  | 'write'
  | 'read'
  | 'sync'
  | 'size'
  | 'close'
  | 'list'
  | 'make-directory'
  | 'rename'
  | 'remove'
  | 'remove-tree'
  | 'sync-directory'
  | 'exists'
  | 'used-bytes'
  | 'lock';

export interface FileCall {
  readonly kind: FileCallKind;
  readonly path: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Whether the call ends within the turn (`writeNow`, `syncNow`). */
  readonly inTurn: boolean;
}

/**
 * - `error`: the call fails with a system code; a write may have written some of its bytes.
 * - `crash`: the process dies before the call, in the middle of it (a write is done in part) or when it is done, before its caller hears of it.
 */
export type Fault = { readonly kind: 'error'; readonly code: string } | { readonly kind: 'crash'; readonly when: 'before' | 'during' | 'after' };

export interface FaultPolicy {
  decide(call: FileCall): Fault | null;
}

export const NO_FAULTS: FaultPolicy = { decide: () => null };

/** Lets the process die at the `countdown`-th call (1: the next) after it was armed. */
export class CrashAtCall implements FaultPolicy {
  readonly #when: 'before' | 'during' | 'after';
  #countdown = 0;

  constructor(when: 'before' | 'during' | 'after') {
    this.#when = when;
  }

  arm(countdown: number): void {
    this.#countdown = countdown;
  }

  decide(): Fault | null {
    this.#countdown -= 1;
    return this.#countdown === 0 ? { kind: 'crash', when: this.#when } : null;
  }
}

/** Asks several policies; the first that answers decides. All are asked, so that each can count. */
export class FirstFault implements FaultPolicy {
  readonly #policies: readonly FaultPolicy[];

  constructor(policies: readonly FaultPolicy[]) {
    this.#policies = policies;
  }

  decide(call: FileCall): Fault | null {
    let first: Fault | null = null;
    for (const policy of this.#policies) {
      const fault = policy.decide(call);
      first ??= fault;
    }
    return first;
  }
}
