/** `basalt explain NAME OFFSET` */
import type { Argv, Options } from 'yargs';
import type { ExplainReport } from '../../volume/explain.ts';
import type { CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, sizeOf } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';
import { withTools } from '../with-tools.ts';

export const explainFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

const STATES: Readonly<Record<ExplainReport['state'], string>> = {
  empty: 'empty: it reads as zeroes',
  lost: 'lost: reading it fails until it is written or trimmed',
  pending: 'pending: in the log, not yet in a chunk',
  persisted: 'persisted: in a chunk',
};

function describeReport(report: ExplainReport): string {
  const { location } = report;
  const start = report.blockNumber * report.blockSizeBytes;
  const rows: [string, string][] = [
    ['block', `${report.blockNumber} of volume ${report.volume} (bytes ${start} to ${start + report.blockSizeBytes - 1})`],
    ['state', report.doubt === null ? STATES[report.state] : `${report.state}, as far as it is known; it may be older than it seems`],
  ];
  if (location !== null) {
    rows.push(['file', `${location.file}, at byte ${location.offsetBytes}`]);
    if (location.chunk !== null) rows.push(['chunk', `${location.chunk}, slot ${location.slot}${location.lsns === null ? '' : `; LSN ${location.lsns[0]} to ${location.lsns[1]}`}`]);
    if (location.lsn !== null) rows.push(['LSN', String(location.lsn)]);
    rows.push(['checksum', `stored ${location.storedChecksum}, computed ${location.computedChecksum ?? 'not: it cannot be read'}`]);
  }
  rows.push(['readable', report.problem === null ? 'yes' : `no: ${report.problem}`]);
  const history = report.history.map(({ file, offsetBytes, what }) => `  ${what}\n    ${file}${offsetBytes === null ? '' : `, at byte ${offsetBytes}`}\n`).join('');
  const damage = report.needsRepair ? `the volume is damaged: basalt check ${report.volume} says where\n` : '';
  return `${formatTable(rows)}history, oldest first:\n${history}${damage}`;
}

export function addExplain(program: Argv, context: CliContext): Argv {
  return program.command(
    'explain <name> <offset>',
    'tell where the block at an offset stands, and how it got there',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .positional('offset', { type: 'string', demandOption: true, coerce: sizeOf('offset'), describe: 'byte of the volume: 1048576, 1M' })
        .options(explainFlags)
        .example('$0 explain demo 1M', 'the block at byte 1048576: its chunk or log record, its checksum, what it was before'),
    async (parsed) => {
      const report = await withTools(context, parsed.data, (tools, onProgress) => tools.explain(parsed.name, { offsetBytes: parsed.offset }, onProgress));
      context.terminal.out(parsed.json ? formatJson(report) : describeReport(report));
    },
  );
}
