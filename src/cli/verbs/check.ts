/** `basalt check NAME` */
import type { Argv, Options } from 'yargs';
import type { CheckReport } from '../../volume/check.ts';
import type { BucketLook } from '../../volume/check-remote.ts';
import type { Finding } from '../../volume/inspect-findings.ts';
import { formatSize } from '../../base/units.ts';
import { EXIT, type CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG } from '../flags.ts';
import { formatJson } from '../output.ts';
import { describeBlocks, withTools } from '../with-tools.ts';

export const checkFlags = {
  deep: { type: 'boolean', default: false, describe: 'read every block, too, and compare its checksum' },
  remote: { type: 'boolean', default: false, describe: "look at the volume's bucket alone: could it be made of that? Also while it is served" },
  data: DATA_FLAG,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

/** A finding as indented lines; `blockSizeBytes` as in the report. */
export function describeFinding({ file, offsetBytes, problem, lost, advice }: Finding, blockSizeBytes: number | null): string {
  const at = offsetBytes === null || problem.includes(`at byte ${offsetBytes}`) ? '' : `, at byte ${offsetBytes}`;
  const loss = lost.length === 0 || blockSizeBytes === null ? '' : `    lost: ${describeBlocks(lost, blockSizeBytes)}\n`;
  return `  ${file}: ${problem}${at}\n${loss}    ${advice}\n`;
}

function describeBucket({ objects, bytes, epoch, checkpoint, isReleased }: BucketLook): string {
  return `${objects} objects, ${formatSize(bytes)}, by the root of epoch ${epoch} and checkpoint ${checkpoint}${isReleased ? '; its last writer shipped all' : ''}`;
}

function describeReport(report: CheckReport): string {
  const { volume, findings, notes, chunks, leaves, logRecords, lastLsn, deep, blockSizeBytes, bucket } = report;
  const looked = `${chunks} chunks, ${leaves} leaves of the block map, ${bucket === null ? `${logRecords} records of the log` : describeBucket(bucket)}${lastLsn === null ? '' : `; last LSN ${lastLsn}`}`;
  const what = bucket === null ? volume : `${volume} in ${bucket.url}`;
  const head = report.isClean ? `${what} is clean` : `${what}: ${findings.length} ${findings.length === 1 ? 'finding' : 'findings'}`;
  const depth = deep ? 'every block was read' : 'blocks were not read; --deep does that';
  const notice = notes.map((note) => `  note: ${note}\n`).join('');
  return `${head} (${looked}; ${depth})\n${findings.map((finding) => describeFinding(finding, blockSizeBytes)).join('')}${notice}`;
}

/** `exit` tells the exit code of a verb that ends well but not with 0: there are findings. */
export function addCheck(program: Argv, context: CliContext, exit: (code: number) => void): Argv {
  return program.command(
    'check <name>',
    'look at all of a volume that is not open, or at its bucket, and report what is wrong with it',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(checkFlags)
        .example('$0 check demo', 'every structure and every reference; changes nothing, exits with 1 if it finds anything')
        .example('$0 check demo --deep --json', 'and every block; for machines')
        .example('$0 check demo --remote', 'whether all that the newest root in its bucket names is there and sound'),
    async (parsed) => {
      const report = await withTools(context, parsed.data, (tools, onProgress) => tools.check(parsed.name, { deep: parsed.deep, remote: parsed.remote }, onProgress));
      context.terminal.out(parsed.json ? formatJson(report) : describeReport(report));
      if (!report.isClean) exit(EXIT.failure);
    },
  );
}
