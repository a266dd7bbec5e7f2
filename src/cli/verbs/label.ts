/** `basalt label NAME KEY=VALUE ...` */
import type { Argv, Options } from 'yargs';
import { UsageError, type CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';
import { withVolumes } from '../with-volumes.ts';

export const labelFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

/** `key=value` sets a label, `key-` takes it away. */
function changesOf(words: readonly string[]): Record<string, string | null> {
  const changes = new Map<string, string | null>();
  for (const word of words) {
    const equals = word.indexOf('=');
    const isRemoval = equals < 0 && word.endsWith('-') && word.length > 1;
    if (equals <= 0 && !isRemoval) throw new UsageError(`label: "${word}" is neither KEY=VALUE, which sets a label, nor KEY-, which takes one away`, { label: word });
    const key = isRemoval ? word.slice(0, -1) : word.slice(0, equals);
    if (changes.has(key)) throw new UsageError(`label: "${key}" is given twice; give it once`, { label: key });
    changes.set(key, isRemoval ? null : word.slice(equals + 1));
  }
  return Object.fromEntries(changes);
}

function describeLabels(labels: Readonly<Record<string, string>>, name: string): string {
  const rows = Object.entries(labels);
  return rows.length === 0 ? `${name} has no labels\n` : formatTable(rows);
}

export function addLabel(program: Argv, context: CliContext): Argv {
  return program.command(
    'label <name> [labels..]',
    'show the labels of a volume, or set some (KEY=VALUE) and take others away (KEY-)',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .positional('labels', { type: 'string', array: true, describe: 'KEY=VALUE or KEY-' })
        .options(labelFlags)
        .example('$0 label demo owner=alice tier=scratch', 'for people and scripts: the engine does not look at them')
        .example('$0 label demo tier-', 'takes one away')
        .example('$0 label demo --json', 'what there are'),
    async (parsed) => {
      const { name } = parsed;
      const changes = changesOf(parsed.labels ?? []);
      const isLook = Object.keys(changes).length === 0;
      const labels = await withVolumes(context, parsed.data, (volumes) => (isLook ? volumes.labelsOf(name) : volumes.setLabels(name, changes)));
      context.terminal.out(parsed.json ? formatJson({ name, labels }) : describeLabels(labels, name));
    },
  );
}
