/** What Linux counts of a running process, read from /proc. */
import { readFile } from 'node:fs/promises';

/** The number behind `name:` in a /proc file of `name: value` lines. Throws when it is not there. */
export function numberOf(text: string, name: string): number {
  const match = new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text);
  if (match === null) throw new Error(`no "${name}" in /proc text of ${text.length} bytes`);
  return Number(match[1]);
}

/**
 * Bytes that the process has caused to be sent to storage. The kernel counts a page when it is dirtied, so a page
 * that is overwritten while still dirty counts once; pages dropped before they were written are taken off again.
 */
export async function diskBytesWritten(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/io`, 'utf8');
  return numberOf(text, 'write_bytes') - numberOf(text, 'cancelled_write_bytes');
}

/** The largest resident set that the process has had, in bytes. */
export async function peakResidentBytes(pid: number): Promise<number> {
  return numberOf(await readFile(`/proc/${pid}/status`, 'utf8'), 'VmHWM') * 1024;
}

/** The resident set that the process has now, in bytes. */
export async function currentResidentBytes(pid: number): Promise<number> {
  return numberOf(await readFile(`/proc/${pid}/status`, 'utf8'), 'VmRSS') * 1024;
}

/** Processor time of all threads so far, in seconds. */
export async function processorSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may hold anything, blanks too: count the fields from behind it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  if (!Number.isFinite(ticks)) throw new Error(`/proc/${pid}/stat is not understood`);
  return ticks / 100; // USER_HZ is 100 on every Linux that Node runs on
}
