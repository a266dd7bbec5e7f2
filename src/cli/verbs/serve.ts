/** `basalt serve` */
import type { Argv, Options } from 'yargs';
import { UsageError, type CliContext } from '../context.ts';
import { addSettingFlags, DATA_FLAG, JSON_FLAG, LOG_LEVEL_FLAG, readSettings, SETTINGS_FLAGS } from '../flags.ts';

const DEFAULT_ADDRESS = '127.0.0.1:10809';

export const serveFlags = {
  listen: {
    type: 'string',
    array: true,
    requiresArg: true,
    describe: `HOST:PORT to listen on, IPv6 as [::1]:10809; may be repeated. ${DEFAULT_ADDRESS} if neither this nor --socket is given`,
  },
  socket: { type: 'string', array: true, requiresArg: true, describe: 'path of a unix socket to listen on, or @NAME for an abstract one; may be repeated' },
  stdio: { type: 'boolean', default: false, describe: 'serve one client on standard input (a socket, as inetd and libnbd give it), and end with it' },
  drain: { type: 'boolean', default: false, describe: 'when it stops, wait until the buckets of open volumes have everything; a second signal ends that' },
  data: DATA_FLAG,
  'log-level': LOG_LEVEL_FLAG,
  ...SETTINGS_FLAGS,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

export function addServe(program: Argv, context: CliContext, exit: (code: number) => void): Argv {
  return program.command(
    'serve',
    'serve the volumes of a directory over NBD',
    (verb) =>
      addSettingFlags(verb.options(serveFlags))
        .example('$0 serve', `the volumes of ./volumes on ${DEFAULT_ADDRESS}`)
        .example('$0 serve --listen [::]:10809 --socket /run/basalt.sock', 'on all addresses and on a unix socket')
        .example('nbdinfo -- [ $0 serve --stdio ]', 'for one client that starts it')
        .example('$0 serve --engine.arena-bytes 512M', 'with a larger cache; basalt settings lists all settings'),
    async (parsed) => {
      const { settings } = await readSettings(context, parsed);
      const sockets = parsed.socket ?? [];
      const activated = context.takeActivation();
      const asked = parsed.listen !== undefined || sockets.length > 0;
      if (parsed.stdio && (asked || activated.length > 0)) throw new UsageError('--stdio serves standard input alone: give it without --listen, --socket and socket activation', { flag: 'stdio' });
      if (asked && activated.length > 0) throw new UsageError('systemd has opened the sockets (LISTEN_FDS): give no --listen and no --socket', { flag: 'listen' });
      const addresses = parsed.listen ?? (asked || parsed.stdio || activated.length > 0 ? [] : [DEFAULT_ADDRESS]);
      const plan = { directory: parsed.data, addresses, sockets, activated, stdio: parsed.stdio, drain: parsed.drain, logLevel: parsed['log-level'], json: parsed.json, settings };
      exit(await context.serve(plan));
    },
  );
}
