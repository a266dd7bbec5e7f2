/** What `basalt doctor` finds. */

export const FINDING_STATES = ['ok', 'warning', 'failure'] as const;

export interface Finding {
  /** What was looked at: one word or two, stable, for scripts. */
  readonly check: string;
  /** `warning`: something will not work, or not as well; `failure`: nothing will. */
  readonly state: (typeof FINDING_STATES)[number];
  readonly message: string;
  /** The command, or what else to do; null where there is nothing to mend. */
  readonly mend: string | null;
}

export function ok(check: string, message: string): Finding {
  return { check, state: 'ok', message, mend: null };
}

export function warning(check: string, message: string, mend: string | null): Finding {
  return { check, state: 'warning', message, mend };
}

export function failure(check: string, message: string, mend: string | null): Finding {
  return { check, state: 'failure', message, mend };
}
