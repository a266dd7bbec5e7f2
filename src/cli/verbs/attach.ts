/** `basalt attach NAME|URI [DEVICE]` */
import type { Argv, Options } from 'yargs';
import type { AttachOptions } from '../../attach/attacher.ts';
import type { AttachedBy, Supervised } from '../../attach/attach-tools.ts';
import { targetFor } from '../../attach/attach-tools.ts';
import { parseDeviceName } from '../../attach/devices.ts';
import { formatSize } from '../../base/units.ts';
import { UsageError, type CliContext } from '../context.ts';
import { JSON_FLAG, LOG_LEVEL_FLAG } from '../flags.ts';
import { formatJson } from '../output.ts';
import { numberBetween, SERVER_FLAG } from './device-flags.ts';

const BLOCK_SIZES = [512, 1024, 2048, 4096] as const;

export const attachFlags = {
  server: SERVER_FLAG,
  connections: { type: 'number', requiresArg: true, default: 1, coerce: numberBetween('connections', 1, 16), describe: 'connections to the server; the kernel uses no more than it has processors' },
  'block-size': { type: 'number', requiresArg: true, default: 4096, choices: BLOCK_SIZES, describe: 'bytes of a logical block of the device; 512 for images with partitions that were made so' },
  timeout: { type: 'number', requiresArg: true, default: 5, coerce: numberBetween('timeout', 1, 3600), describe: 'seconds after which a request that is not answered is sent again on a new connection' },
  'dead-timeout': { type: 'number', requiresArg: true, default: 120, coerce: numberBetween('dead-timeout', 1, 86_400), describe: 'seconds that requests wait for a server that is gone, before they fail' },
  supervise: { type: 'boolean', default: false, describe: 'stay, reconnect when the server comes back, follow its size; SIGTERM or Ctrl-C detaches' },
  keep: { type: 'boolean', default: false, describe: 'with --supervise: leave the device attached at the end; the next one goes on with it' },
  'size-check': { type: 'number', requiresArg: true, default: 10, coerce: numberBetween('size-check', 1, 3600), describe: 'with --supervise: seconds between two looks at the size of the export' },
  'log-level': LOG_LEVEL_FLAG,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

function describeAttached({ device, uri, sizeBytes, readOnly, isNew }: AttachedBy): string {
  const what = `${formatSize(sizeBytes)}${readOnly ? ', read-only' : ''}`;
  return isNew ? `${uri} is attached as ${device} (${what})\n` : `${uri} was attached as ${device} already; dead connections are replaced, and it has the size of the export (${what})\n`;
}

function describeEnd({ device, end, pauses, longestPauseMs }: Supervised): string {
  const paused = pauses === 0 ? '' : `; ${pauses} times without a connection, ${(longestPauseMs / 1000).toFixed(1)} s at most`;
  switch (end) {
    case 'detached':
      return `${device} is detached${paused}\n`;
    case 'kept':
      return `${device} stays attached; nobody reconnects it now${paused}\n`;
    case 'ended':
      return `${device} was detached by somebody else${paused}\n`;
    case 'not-attached':
      return 'there was no server; nothing is attached\n';
  }
}

function deviceIndex(text: string | undefined): number | null {
  if (text === undefined) return null;
  const index = parseDeviceName(text);
  if (index !== null) return index;
  throw new UsageError(`attach: "${text}" is no NBD device; write /dev/nbd0, or leave it out to take the first free one`, { device: text });
}

export function addAttach(program: Argv, context: CliContext): Argv {
  return program.command(
    'attach <what> [device]',
    'attach an export as a block device of this machine (Linux, root)',
    (verb) =>
      verb
        .positional('what', { type: 'string', demandOption: true, describe: 'name of a volume, or URI of any NBD export' })
        .positional('device', { type: 'string', describe: '/dev/nbdN; the first free one without it' })
        .options(attachFlags)
        .example('sudo $0 attach demo', 'the volume demo of the server on this machine')
        .example("sudo $0 attach 'nbd+unix:///demo?socket=/run/basalt.sock' /dev/nbd3", 'over a unix socket, as that device')
        .example('sudo $0 attach demo --supervise --connections 4', 'survives restarts of the server; systemd/basalt-attach@.service does this'),
    async (parsed) => {
      const { terminal } = context;
      if (parsed.keep && !parsed.supervise) throw new UsageError('attach: --keep is for --supervise; without it a device always stays', { flag: 'keep' });
      const options: AttachOptions = {
        target: targetFor(parsed.what, parsed.server),
        index: deviceIndex(parsed.device),
        connections: parsed.connections,
        blockSizeBytes: parsed['block-size'],
        timeoutSeconds: parsed.timeout,
        deadTimeoutSeconds: parsed['dead-timeout'],
      };
      const tools = await context.openAttach();
      const tell = (attached: AttachedBy): void => terminal.out(parsed.json ? `${JSON.stringify(attached)}\n` : describeAttached(attached));
      if (!parsed.supervise) {
        tell(await tools.attach(options));
        return;
      }
      const end = await tools.supervise(options, { sizeCheckMs: parsed['size-check'] * 1000, keep: parsed.keep, logLevel: parsed['log-level'], onAttached: tell });
      terminal.out(parsed.json ? formatJson(end) : describeEnd(end));
    },
  );
}
