/** What the verbs over closed volumes have in common. */
import { type BlockRange, type OnProgress, countBlocks, formatRanges } from '../volume/inspect-findings.ts';
import type { CliContext, VolumeTools } from './context.ts';
import { readSettings } from './flags.ts';
import { ProgressLine } from './progress.ts';

/** Runs `task` with the tools for a directory of volumes; how far it is shows on a terminal. */
export async function withTools<T>(context: CliContext, directory: string, task: (tools: VolumeTools, onProgress: OnProgress) => Promise<T>): Promise<T> {
  const { settings } = await readSettings(context);
  const tools = await context.openTools({ directory, settings: settings.engine, remote: settings.remote });
  const line = new ProgressLine(context.terminal, () => performance.now());
  try {
    return await task(tools, line.update);
  } finally {
    line.end();
    await tools.close();
  }
}

/** `3 blocks of 4096 bytes: blocks 5 to 7 (from byte 20480 on)` */
export function describeBlocks(ranges: readonly BlockRange[], blockSizeBytes: number): string {
  const count = countBlocks(ranges);
  const first = ranges[0]?.blockNumber ?? 0;
  return `${count} ${count === 1 ? 'block' : 'blocks'} of ${blockSizeBytes} bytes: ${formatRanges(ranges)} (from byte ${first * blockSizeBytes} on)`;
}
