/** `basalt attached` */
import type { Argv, Options } from 'yargs';
import type { ListedDevice } from '../../attach/attach-tools.ts';
import { formatSize } from '../../base/units.ts';
import type { CliContext } from '../context.ts';
import { JSON_FLAG } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';

export const attachedFlags = {
  all: { type: 'boolean', default: false, describe: 'free devices, too' },
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

function describeDevice({ path, isAttached, sizeBytes, readOnly, backend, users }: ListedDevice): string[] {
  if (!isAttached) return [path, '-', 'free', '-'];
  return [path, `${formatSize(sizeBytes)}${readOnly ? ' (read-only)' : ''}`, backend ?? 'by another program', users.length === 0 ? 'nobody' : users.join(', ')];
}

export function addAttached(program: Argv, context: CliContext): Argv {
  return program.command(
    'attached',
    'list the block devices that are attached, and who uses them',
    (verb) => verb.options(attachedFlags).example('$0 attached', 'mounts and processes of other users are seen by root only').example('$0 attached --all --json', 'all devices, for machines'),
    async (parsed) => {
      const tools = await context.openAttach();
      const devices = await tools.list({ all: parsed.all });
      if (parsed.json) context.terminal.out(formatJson(devices));
      else if (devices.length === 0) context.terminal.out('nothing is attached; sudo basalt attach NAME does it\n');
      else context.terminal.out(formatTable([['DEVICE', 'SIZE', 'EXPORT', 'USED BY'], ...devices.map(describeDevice)]));
    },
  );
}
