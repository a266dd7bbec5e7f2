/** What the verbs print: aligned tables for people, JSON for machines, errors for both. */
import { systemCode, toVolumeError, VolumeError, type ErrorContext } from '../base/errors.ts';
import { EXIT, UsageError, type Terminal } from './context.ts';

export type Cell = string | number;

/** Rows of cells in aligned columns, two spaces apart; numbers to the right. Ends with a newline. */
export function formatTable(rows: readonly (readonly Cell[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, String(cell).length)));
  const line = (row: readonly Cell[]): string =>
    row.map((cell, column) => (typeof cell === 'number' ? String(cell).padStart(widths[column]) : cell.padEnd(widths[column]))).join('  ');
  return rows.map((row) => `${line(row).trimEnd()}\n`).join('');
}

/** A value as indented JSON and a newline. */
export function formatJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

interface Failure {
  readonly code: string;
  readonly message: string;
  readonly context: ErrorContext;
  readonly exitCode: number;
}

function describeFailure(error: unknown): Failure {
  if (error instanceof UsageError) return { code: 'usage', message: error.message, context: error.context, exitCode: EXIT.usage };
  if (error instanceof VolumeError) {
    const exitCode = error.code === 'invalid-argument' ? EXIT.usage : EXIT.failure;
    return { code: error.code, message: error.message, context: error.context, exitCode };
  }
  if (systemCode(error) !== undefined) return describeFailure(toVolumeError(error, 'system call'));
  // A mistake of our own: the stack is what a report of it needs.
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: 'internal', message, context: {}, exitCode: EXIT.failure };
}

/**
 * Prints an error on standard error (`basalt: <message>`, or one line of JSON `{"error":{code,message,context}}`) and
 * returns the exit code it means: 2 for wrong usage and wrong arguments, 1 for everything else.
 */
export function printError(terminal: Terminal, error: unknown, json: boolean): number {
  const { code, message, context, exitCode } = describeFailure(error);
  terminal.error(json ? `${JSON.stringify({ error: { code, message, context } })}\n` : `basalt: ${message}\n`);
  return exitCode;
}
