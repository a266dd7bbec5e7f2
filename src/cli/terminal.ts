/** The real terminal. */
import { createInterface } from 'node:readline/promises';
import { systemCode } from '../base/errors.ts';
import type { Terminal } from './context.ts';

export function createTerminal(): Terminal {
  // `basalt list | head` closes the pipe early: that is no failure of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  return {
    isInteractive: process.stdin.isTTY && process.stderr.isTTY,
    size: () => (process.stdout.isTTY ? { columns: process.stdout.columns, rows: process.stdout.rows } : null),
    out: (text) => void process.stdout.write(text),
    error: (text) => void process.stderr.write(text),
    async ask(question) {
      const lines = createInterface({ input: process.stdin, output: process.stderr });
      try {
        return await lines.question(question);
      } catch (error) {
        if (systemCode(error) !== 'ABORT_ERR') throw error;
        process.stderr.write('\n');
        return ''; // Ctrl-D or Ctrl-C: no answer
      } finally {
        lines.close();
      }
    },
  };
}
