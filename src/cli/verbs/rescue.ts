/** `basalt rescue DEVICE|NAME|URI` */
import type { Argv, Options } from 'yargs';
import type { Rescued } from '../../attach/attacher.ts';
import type { CliContext } from '../context.ts';
import { JSON_FLAG } from '../flags.ts';
import { formatJson } from '../output.ts';
import { SERVER_FLAG } from './device-flags.ts';

export const rescueFlags = {
  yes: { type: 'boolean', default: false, describe: 'free it though it is mounted or open: what is not on the server yet is lost' },
  server: SERVER_FLAG,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

function describeRescue({ device, outcome, users }: Rescued): string {
  if (outcome === 'reconnected') return `the server answers: ${device} has new connections, and nothing is lost\n`;
  if (outcome === 'freed') return `${device} is free\n`;
  const mounts = users.filter((user) => user.startsWith('mounted on ')).map((user) => `umount ${user.slice('mounted on '.length)}`);
  const how = mounts.length === 0 ? 'end those who use it' : `${mounts.join(' && ')} (with -l if that does not end), and look at the file system with fsck when it is attached again`;
  return `${device} is disconnected, its requests fail, and it is free when nobody uses it any more (${users.join(', ')}): ${how}\n`;
}

export function addRescue(program: Argv, context: CliContext): Argv {
  return program.command(
    'rescue <what>',
    'get a device going whose server is gone: reconnect it, or free it',
    (verb) =>
      verb
        .positional('what', { type: 'string', demandOption: true, describe: '/dev/nbdN, or the name or URI that it was attached with' })
        .options(rescueFlags)
        .example('sudo $0 rescue /dev/nbd0', 'reconnects if the server answers, or else frees a device that nobody uses')
        .example('sudo $0 rescue /dev/nbd0 --yes', 'frees it though a file system is mounted: tasks that hang get I/O errors'),
    async (parsed) => {
      const tools = await context.openAttach();
      const rescued = await tools.rescue(parsed.what, parsed.server, parsed.yes);
      context.terminal.out(parsed.json ? formatJson(rescued) : describeRescue(rescued));
    },
  );
}
