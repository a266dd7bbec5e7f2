/** What can go wrong with one call of the simulated file system. A policy is asked at every call. */

export type FileCallKind =
  | 'open'
  | 'map'
  | 'copy'
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
  /** Whether the call ends within the turn (`writeNow`, `syncNow`, `copyNow`). */
  readonly inTurn: boolean;
}

/**
 * - `error`: the call fails with a system code; a write may have written some of its bytes, another call may be done all
 *   the same; a sync has parted the page cache from the medium (`file-node.ts`).
 * - `crash`: the process dies before the call, in the middle of it (a write is done in part) or when it is done, before its caller hears of it.
 * - `slow`: the call takes that much longer.
 * - `rot`: a read succeeds with some bits turned.
 */
export type Fault =
  | { readonly kind: 'error'; readonly code: string }
  | { readonly kind: 'crash'; readonly when: 'before' | 'during' | 'after' }
  | { readonly kind: 'slow'; readonly delayMs: number }
  | { readonly kind: 'rot' };

export interface FaultPolicy {
  decide(call: FileCall): Fault | null;
  /** The caller hears of the fault in this very moment. */
  delivered?(call: FileCall, fault: Fault): void;
  /** The caller was told of a failure that is nobody's fault: the disk is full, a file is missing. */
  failed?(call: FileCall): void;
}

export const NO_FAULTS: FaultPolicy = { decide: () => null };

/** Lets the process die at the `countdown`-th call (1: the next) of those that `counts` says, after it was armed. */
export class CrashAtCall implements FaultPolicy {
  readonly #when: 'before' | 'during' | 'after';
  readonly #counts: (call: FileCall) => boolean;
  #countdown = 0;

  constructor(when: 'before' | 'during' | 'after', counts: (call: FileCall) => boolean = () => true) {
    this.#when = when;
    this.#counts = counts;
  }

  arm(countdown: number): void {
    this.#countdown = countdown;
  }

  decide(call: FileCall): Fault | null {
    if (!this.#counts(call)) return null;
    this.#countdown -= 1;
    return this.#countdown === 0 ? { kind: 'crash', when: this.#when } : null;
  }
}

/** Calls that go wrong in a row: after `countdown` more of those that match, `length` of them. */
export interface Burst {
  readonly matches: (call: FileCall) => boolean;
  readonly fault: Fault;
  countdown: number;
  length: number;
}

/** Lets bursts of calls go wrong. */
export class Bursts implements FaultPolicy {
  readonly #bursts: Burst[] = [];
  readonly #delivered: (call: FileCall, fault: Fault) => void;

  constructor(delivered: (call: FileCall, fault: Fault) => void) {
    this.#delivered = delivered;
  }

  add(burst: Burst): void {
    this.#bursts.push(burst);
  }

  decide(call: FileCall): Fault | null {
    let first: Fault | null = null;
    for (const burst of this.#bursts) {
      if (burst.length === 0 || !burst.matches(call)) continue;
      burst.countdown -= 1;
      if (burst.countdown >= 0) continue;
      burst.length -= 1;
      first ??= burst.fault;
    }
    return first;
  }

  delivered(call: FileCall, fault: Fault): void {
    this.#delivered(call, fault);
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

  delivered(call: FileCall, fault: Fault): void {
    for (const policy of this.#policies) policy.delivered?.(call, fault);
  }

  failed(call: FileCall): void {
    for (const policy of this.#policies) policy.failed?.(call);
  }
}
