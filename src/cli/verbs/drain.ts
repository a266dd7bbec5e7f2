/** `basalt drain NAME` */
import type { Argv, Options } from 'yargs';
import { formatSize } from '../../base/units.ts';
import type { ShippingStatus } from '../../volume/volume-info.ts';
import type { CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, readSettings } from '../flags.ts';
import { formatJson } from '../output.ts';
import { ProgressLine } from '../progress.ts';

export const drainFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

/** Through the server that runs in the directory, or else by opening the volume. */
async function drain(context: CliContext, directory: string, name: string): Promise<ShippingStatus | null> {
  const server = await context.findServer(directory);
  if (server !== null) {
    const line = new ProgressLine(context.terminal, () => performance.now());
    try {
      return await server.drain(name, line.update);
    } finally {
      line.end();
    }
  }
  const { settings } = await readSettings(context);
  const volumes = await context.openVolumes({ directory, settings: settings.engine, remote: settings.remote });
  try {
    return (await volumes.drain(name)).shipping;
  } finally {
    await volumes.close();
  }
}

export function addDrain(program: Argv, context: CliContext): Argv {
  return program.command(
    'drain <name>',
    'wait until the bucket of a volume has all that was written to it',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(drainFlags)
        .example('$0 drain demo', 'also while it is served; while the bucket cannot be reached it waits'),
    async (parsed) => {
      const shipping = await drain(context, parsed.data, parsed.name);
      const upTo = shipping === null ? '' : ` (up to LSN ${shipping.rootLsn}; ${formatSize(shipping.cachedBytes)} of it are here, too)`;
      context.terminal.out(parsed.json ? formatJson({ name: parsed.name, shipping }) : `the bucket of ${parsed.name} has all that was written before${upTo}\n`);
    },
  );
}
