/** `basalt repair NAME` */
import type { Argv, Options } from 'yargs';
import { nearest } from '../../config/nearest.ts';
import { countBlocks } from '../../volume/inspect-findings.ts';
import type { UncertainChoice } from '../../volume/rebuild-leaves.ts';
import { type RepairReport, choiceError } from '../../volume/repair.ts';
import { EXIT, UsageError, type CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, once } from '../flags.ts';
import { formatJson } from '../output.ts';
import { describeBlocks, withTools } from '../with-tools.ts';
import { describeFinding } from './check.ts';

const CHOICES = ['restore', 'lost'] as const satisfies readonly UncertainChoice[];

function choiceOf(value: string | readonly string[]): UncertainChoice {
  const text = once('uncertain')(value);
  const choice = CHOICES.find((candidate) => candidate === text);
  if (choice !== undefined) return choice;
  throw new UsageError(`uncertain "${text}" is none of ${CHOICES.join(', ')}; did you mean ${nearest(text, CHOICES)}?`, { flag: 'uncertain' });
}

export const repairFlags = {
  yes: { type: 'boolean', default: false, describe: 'do it; without this only what would be done is reported' },
  uncertain: {
    type: 'string',
    requiresArg: true,
    choices: CHOICES,
    coerce: choiceOf,
    describe: 'blocks of which nobody can tell whether the stored version is the last one: take it (restore), or let reading them fail (lost)',
  },
  data: DATA_FLAG,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

const HEADS: Readonly<Record<RepairReport['state'], string>> = {
  sound: 'there is nothing to repair',
  planned: 'nothing was changed; this is what a repair would do (--yes does it):',
  'choice-needed': 'nothing was changed; this is what a repair would do:',
  repaired: 'repaired:',
};

function describeReport(report: RepairReport): string {
  const { findings, steps, lost, uncertain, setBack, restored, keptAside, folder, blockSizeBytes } = report;
  const lines = [`${report.volume}: ${HEADS[report.state]}`, ...steps.map((step, index) => `  ${index + 1}. ${step}`)];
  if (restored.length > 0) lines.push(`back from the log: ${describeBlocks(restored, blockSizeBytes)}`);
  if (lost.length > 0) lines.push(`lost: ${describeBlocks(lost, blockSizeBytes)}`);
  if (uncertain.length > 0) lines.push(`uncertain: ${describeBlocks(uncertain, blockSizeBytes)}`);
  if (setBack.length > 0) lines.push(`set back to an older content: ${describeBlocks(setBack, blockSizeBytes)}`);
  if (keptAside.length > 0) lines.push(`kept aside in ${folder}: ${keptAside.join(', ')}`);
  const needing = findings.filter(({ needsRepair }) => needsRepair);
  const why = needing.length === 0 ? '' : `because of:\n${needing.map((finding) => describeFinding({ ...finding, advice: '' }, blockSizeBytes).trimEnd()).join('\n')}\n`;
  return `${lines.join('\n')}\n${why}`;
}

export function addRepair(program: Argv, context: CliContext, exit: (code: number) => void): Argv {
  return program.command(
    'repair <name>',
    'make a damaged volume open again, with all that is sound of it',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(repairFlags)
        .example('$0 repair demo', 'reports what it would do, and what is lost; changes nothing')
        .example('$0 repair demo --yes', 'does it; deletes nothing: what has no place any more is kept in demo/kept-aside'),
    async (parsed) => {
      const choice = { apply: parsed.yes, uncertain: parsed.uncertain ?? null };
      const report = await withTools(context, parsed.data, (tools, onProgress) => tools.repair(parsed.name, choice, onProgress));
      context.terminal.out(parsed.json ? formatJson(report) : describeReport(report));
      if (report.state === 'choice-needed') throw choiceError(parsed.name, countBlocks(report.uncertain));
      if (report.state === 'planned') exit(EXIT.failure);
    },
  );
}
