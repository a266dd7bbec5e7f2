/** The composition root of the verbs about devices. */
import { open } from 'node:fs/promises';
import { AttachTools } from '../attach/attach-tools.ts';
import { Devices } from '../attach/devices.ts';
import { createDialler } from '../attach/dial.ts';
import { NetlinkKernel } from '../attach/netlink-kernel.ts';
import { runProgram } from '../attach/programs.ts';
import { createJsonLogger, NodeClock } from '../env/node-env.ts';
import { duplicateDescriptor, openGenericNetlink, tcpStateOf } from '../env/node-netlink.ts';
import type { DeviceTools, Terminal } from './context.ts';
import { listenForStop } from './stop-signal.ts';

/** Writes what the page cache has of a block device, and has the device flushed. */
async function flush(path: string): Promise<void> {
  const device = await open(path, 'r+');
  try {
    await device.sync();
  } finally {
    await device.close();
  }
}

export function openAttach(terminal: Terminal): DeviceTools {
  const tools = new AttachTools({
    openKernel: () => NetlinkKernel.open(openGenericNetlink),
    dialler: createDialler(duplicateDescriptor),
    devices: new Devices(),
    clock: new NodeClock(),
    flush,
    run: runProgram,
    stateOf: tcpStateOf,
    warn: (text) => terminal.error(`basalt: warning: ${text}\n`),
  });
  return {
    attach: (options) => tools.attach(options),
    detach: (what, server) => tools.detach(what, server),
    rescue: (what, server, mayLose) => tools.rescue(what, server, mayLose),
    list: (options) => tools.list(options),
    async supervise(options, { logLevel, ...supervision }) {
      const logger = createJsonLogger(logLevel, (line) => terminal.error(line));
      const stop = listenForStop((signal) => logger.log('warn', 'stopped-at-once', { signal }));
      try {
        return await tools.supervise(options, { ...supervision, stop: stop.signal, log: (level, event, fields) => logger.log(level, event, fields) });
      } finally {
        stop.dispose();
      }
    },
  };
}
