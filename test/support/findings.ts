/** What `basalt doctor --json` printed. */
export interface Found {
  readonly check: string;
  readonly state: string;
  readonly message: string;
  readonly mend: string | null;
}

function isFound(value: unknown): value is Found {
  if (typeof value !== 'object' || value === null || !('check' in value) || !('state' in value) || !('message' in value) || !('mend' in value)) return false;
  const { check, state, message, mend } = value;
  return typeof check === 'string' && typeof state === 'string' && typeof message === 'string' && (mend === null || typeof mend === 'string');
}

export function findingsOf(out: string): { readonly ok: unknown; readonly findings: readonly Found[] } {
  const parsed: unknown = JSON.parse(out);
  if (typeof parsed !== 'object' || parsed === null || !('ok' in parsed) || !('findings' in parsed) || !Array.isArray(parsed.findings)) throw new Error(`no findings: ${out}`);
  const findings = parsed.findings.filter(isFound);
  if (findings.length !== parsed.findings.length) throw new Error(`a finding lacks something: ${out}`);
  return { ok: parsed.ok, findings };
}
