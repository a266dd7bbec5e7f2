/** `basalt scrub NAME` */
import type { Argv, Options } from 'yargs';
import { KIB, formatSize } from '../../base/units.ts';
import type { RottenPlace, ScrubReport } from '../../volume/volume-info.ts';
import { EXIT, UsageError, type CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, sizeOf } from '../flags.ts';
import { formatJson } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { withTools } from '../with-tools.ts';

const MIN_RATE = 64 * KIB;

function rateOf(value: string | readonly string[]): number {
  const rate = sizeOf('rate')(value);
  if (rate < MIN_RATE) throw new UsageError(`rate ${rate} is less than ${formatSize(MIN_RATE)} a second; a scrub at that rate would not end`, { flag: 'rate' });
  return rate;
}

export const scrubFlags = {
  rate: { type: 'string', requiresArg: true, coerce: rateOf, describe: 'bytes to read in a second, such as 64M; otherwise as engine.scrub_bytes_per_second says' },
  data: DATA_FLAG,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

/** What the volume's owner has to know of a rotten place. */
function consequenceOf({ inUse, rewritten, blockNumber, chunk }: RottenPlace, volume: string): string {
  if (chunk === null) return rewritten > 0 ? 'written anew from memory' : `stop the server, if one runs, and run: basalt check ${volume}`;
  if (rewritten > 0) return blockNumber === null ? `${rewritten} of its blocks were in memory and are written anew; others cannot be read` : 'written anew from memory';
  if (inUse === null) return 'whether it is in use is not known';
  if (!inUse) return 'no longer in use';
  return blockNumber === null ? 'its blocks cannot be read' : 'cannot be read; write it again from a backup, or trim it';
}

function describePlace(place: RottenPlace, volume: string): string {
  const { file, blockNumber, offsetBytes, problem } = place;
  const block = blockNumber === null ? '' : `block ${blockNumber}: `;
  const at = offsetBytes === null || problem.includes(`at byte ${offsetBytes}`) ? '' : `, at byte ${offsetBytes}`;
  return `  ${file}: ${block}${problem}${at}\n    ${consequenceOf(place, volume)}\n`;
}

function describeReport(report: ScrubReport): string {
  const { volume, isClean, chunks, blocks, pages, mappedBlocks, bytes, rotten, rottenCount, rewrittenCount, elapsedMs } = report;
  const looked = `${chunks} chunks, ${blocks} blocks, manifest, ${pages} pages of the block map with ${mappedBlocks} blocks, ${formatSize(bytes)} read in ${(elapsedMs / 1000).toFixed(1)} s`;
  if (isClean) return `${volume}: everything is as it was written (${looked})\n`;
  const more = rottenCount > rotten.length ? `  and ${rottenCount - rotten.length} more\n` : '';
  const places = rottenCount === 1 ? 'place is' : 'places are';
  return `${volume}: ${rottenCount} ${places} rotten, ${rewrittenCount} blocks or pages were written anew (${looked})\n${rotten.map((place) => describePlace(place, volume)).join('')}${more}`;
}

/** Through the server that runs in the directory, or else under the volume's lock. */
async function scrub(context: CliContext, directory: string, name: string, bytesPerSecond: number | null): Promise<ScrubReport & { readonly live: boolean }> {
  const server = await context.findServer(directory);
  if (server === null) return { ...(await withTools(context, directory, (tools, onProgress) => tools.scrub(name, { bytesPerSecond }, onProgress))), live: false };
  const line = new ProgressLine(context.terminal, () => performance.now());
  try {
    return { ...(await server.scrub(name, bytesPerSecond, line.update)), live: true };
  } finally {
    line.end();
  }
}

/** `exit` tells the exit code of a verb that ends well but not with 0: something is rotten. */
export function addScrub(program: Argv, context: CliContext, exit: (code: number) => void): Argv {
  return program.command(
    'scrub <name>',
    'read all chunks, the block map and the manifest once and report what is rotten, also while the volume is served',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(scrubFlags)
        .example('$0 scrub demo', 'every block against its checksum; what is rotten and whole in memory is written anew. Exits with 1 if anything is rotten')
        .example('$0 scrub demo --rate 8M --json', 'slowly, for cron; Ctrl-C ends it'),
    async (parsed) => {
      const report = await scrub(context, parsed.data, parsed.name, parsed.rate ?? null);
      context.terminal.out(parsed.json ? formatJson(report) : describeReport(report));
      if (!report.isClean) exit(EXIT.failure);
    },
  );
}
