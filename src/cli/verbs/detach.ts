/** `basalt detach DEVICE|NAME|URI` */
import type { Argv, Options } from 'yargs';
import type { CliContext } from '../context.ts';
import { JSON_FLAG } from '../flags.ts';
import { formatJson } from '../output.ts';
import { SERVER_FLAG } from './device-flags.ts';

export const detachFlags = { server: SERVER_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

export function addDetach(program: Argv, context: CliContext): Argv {
  return program.command(
    'detach <what>',
    'flush and detach a block device',
    (verb) =>
      verb
        .positional('what', { type: 'string', demandOption: true, describe: '/dev/nbdN, or the name or URI that it was attached with' })
        .options(detachFlags)
        .example('sudo $0 detach demo', 'refused while it is mounted or open; umount it first')
        .example('sudo $0 detach /dev/nbd0', 'whoever has attached it'),
    async (parsed) => {
      const tools = await context.openAttach();
      const { path, backend } = await tools.detach(parsed.what, parsed.server);
      context.terminal.out(parsed.json ? formatJson({ device: path, uri: backend }) : `${path} is detached\n`);
    },
  );
}
