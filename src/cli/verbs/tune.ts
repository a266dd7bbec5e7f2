/** `basalt tune DIRECTORY` */
import type { Argv, Options } from 'yargs';
import { assert } from '../../base/assert.ts';
import { formatSize, MIB } from '../../base/units.ts';
import { loadSettings } from '../../config/load-settings.ts';
import { settingsToml } from '../../config/settings-toml.ts';
import type { Timing } from '../../volume/measure-disk.ts';
import { adviseSettings, type Advice, type Measured } from '../choose-profile.ts';
import type { CliContext } from '../context.ts';
import { JSON_FLAG, once } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { shellWord } from './create.ts';

export const tuneFlags = {
  write: { type: 'string', requiresArg: true, coerce: once('write'), describe: 'write the proposed settings to this file; one that is there stays' },
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

const speed = (bytesPerSecond: number): string => `${(bytesPerSecond / MIB).toFixed(bytesPerSecond < 100 * MIB ? 1 : 0)} MiB/s`;

function describeTiming({ bestMs, medianMs, worstMs, rounds }: Timing): string {
  return `${bestMs.toFixed(2)} ms at best, ${medianMs.toFixed(2)} usually, ${worstMs.toFixed(2)} at worst (${rounds} times)`;
}

/** What was measured, for people. */
function describeMeasured({ measurement, facts }: Measured, directory: string): string {
  const { sync, write, alignment, bestBytesPerSecond, medianBytesPerSecond, writtenBytes, elapsedMs } = measurement;
  const place = facts === null ? '' : `, ${facts.fileSystem}${facts.disk === null ? '' : ` on ${facts.disk}`}`;
  const sectors = facts?.sectorBytes === null || facts?.sectorBytes === undefined ? '' : `; the disk's sectors: ${formatSize(facts.sectorBytes)}`;
  const erase = facts?.eraseBlockBytes === null || facts?.eraseBlockBytes === undefined ? '' : `; it erases ${formatSize(facts.eraseBlockBytes)} at once`;
  const aligned = alignment === null ? `no writes past the page cache here${sectors}${erase}` : `64 KiB ${alignment.aligned.bestMs.toFixed(2)} ms at best, shifted by 4 KiB ${alignment.shifted.bestMs.toFixed(2)} ms${sectors}${erase}`;
  return `${directory}${place}: ${formatSize(Math.round(writtenBytes / MIB) * MIB)} written in ${(elapsedMs / 1000).toFixed(1)} s\n${formatTable([
    ['  sync of 8 KiB', describeTiming(sync)],
    ['  writing', `${speed(bestBytesPerSecond)} at best, ${speed(medianBytesPerSecond)} usually (pieces of 4 MiB with a sync each, ${write.rounds} times)`],
    ['  alignment', aligned],
  ])}`;
}

function describeAdvice({ profile, reasons, changes, warnings }: Advice): string {
  const lines = [
    profile === null ? 'no profile: the defaults fit' : `profile ${profile}`,
    ...reasons.map((reason) => `  because ${reason}`),
    ...changes.map(({ key, value, reason }) => `  with ${key} = ${value}, because ${reason}`),
    ...warnings.map((warning) => `  mind: ${warning}`),
  ];
  return `${lines.join('\n')}\n`;
}

/** The text of a settings file for the advice: a profile's with the changed lines, or the documented defaults. */
export function tunedToml(text: string, { reasons, changes }: Advice, day: string): string {
  let changed = text;
  for (const { key, value, reason } of changes) {
    const name = key.slice(key.indexOf('.') + 1);
    const line = new RegExp(`^${name} = .*$`, 'm');
    assert(line.test(changed), `${key} stands in the profile`);
    changed = changed.replace(line, () => `# (measured: ${reason})\n${name} = ${value}`);
  }
  const header = [`# Proposed by basalt tune on ${day}:`, ...reasons.map((reason) => `# - ${reason}`)];
  return `${header.join('\n')}\n\n${changed}`;
}

async function writeSettings(context: CliContext, path: string, advice: Advice): Promise<void> {
  const text = tunedToml(advice.profile === null ? settingsToml() : await context.readProfile(advice.profile), advice, new Date().toISOString().slice(0, 10));
  loadSettings({ toml: { name: path, text } }); // nothing is written that serve would refuse
  await context.writeNewFile(path, text);
}

function describeNext({ profile }: Advice, written: string | undefined, directory: string): string {
  const data = `--data ${shellWord(directory)}`;
  if (written !== undefined) return `written: ${written}\n  basalt create NAME SIZE ${data} --config ${shellWord(written)}\n  basalt serve ${data} --config ${shellWord(written)}\n`;
  return profile === null ? '' : `  basalt tune ${shellWord(directory)} --write basalt.toml, or basalt settings --profile ${profile} > basalt.toml, makes the file for --config of create and serve\n`;
}

async function measure(context: CliContext, directory: string): Promise<Measured> {
  const line = new ProgressLine(context.terminal, () => performance.now());
  try {
    return await context.measureMachine(directory, line.update);
  } finally {
    line.end();
  }
}

export function addTune(program: Argv, context: CliContext): Argv {
  return program.command(
    'tune <directory>',
    'measure the disk of a directory and propose settings for it',
    (verb) =>
      verb
        .positional('directory', { type: 'string', demandOption: true, describe: 'where volumes are, or will be' })
        .options(tuneFlags)
        .example('$0 tune volumes', 'seconds of writing, at most 64 MiB of space; nothing stays behind')
        .example('$0 tune /mnt/card --write card.toml', 'and writes the settings for --config of create and serve'),
    async (parsed) => {
      const measured = await measure(context, parsed.directory);
      const advice = adviseSettings(measured);
      if (parsed.write !== undefined) await writeSettings(context, parsed.write, advice);
      if (parsed.json) {
        context.terminal.out(formatJson({ directory: parsed.directory, ...advice, ...measured, written: parsed.write ?? null }));
        return;
      }
      context.terminal.out(`${describeMeasured(measured, parsed.directory)}${describeAdvice(advice)}${describeNext(advice, parsed.write, parsed.directory)}`);
    },
  );
}
