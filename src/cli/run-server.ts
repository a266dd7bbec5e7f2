/** The composition root of `basalt serve`: volumes, server, logger, and their end. */
import { resolve } from 'node:path';
import { VolumeError } from '../base/errors.ts';
import { workerEntry } from '../chunk/worker-entry.ts';
import { ControlServer } from '../control/control-server.ts';
import type { ControlTargets, ServerInfo } from '../control/routes.ts';
import { ControlSocket } from '../control/socket-file.ts';
import { createJsonLogger, createNodeEnv } from '../env/node-env.ts';
import type { Env, Logger } from '../env/env.ts';
import { parseTcpAddress, type ListenAddress, type ListenerInfo } from '../server/listener.ts';
import { NbdServer } from '../server/nbd-server.ts';
import { VolumeSet } from '../volume/volume-set.ts';
import { EXIT, type ServePlan, type Terminal } from './context.ts';
import { listenForStop } from './stop-signal.ts';

function formatListener(info: ListenerInfo, json: boolean): string {
  return json ? `${JSON.stringify({ listening: info.name, uri: info.uri })}\n` : `listening on ${info.uri}\n`;
}

/** What runs, and has to be ended in this order. */
interface Running {
  readonly server: NbdServer;
  readonly control: ControlServer | null;
  readonly volumes: VolumeSet;
  readonly env: Env;
}

async function end({ server, control, volumes, env }: Running, graceMs: number): Promise<void> {
  await server.stop({ graceMs });
  try {
    await volumes.close();
  } finally {
    // Last: until here the directory is not for another server.
    await control?.stop();
    await env.workers.close();
  }
}

/**
 * Opens the control socket. Rejects with `in-use` if another process serves the directory; anything else that is wrong with it (a
 * file system without sockets, say) keeps nobody from serving: it is said, and there is none.
 */
async function startControl(plan: ServePlan, env: Env, targets: ControlTargets): Promise<ControlServer | null> {
  try {
    const socket = await ControlSocket.claim(env.files, plan.directory);
    return await ControlServer.start({ socket, targets, settings: plan.settings.control, logger: env.logger });
  } catch (error) {
    if (!(error instanceof VolumeError) || error.code === 'in-use') throw error;
    env.logger.log('warn', 'no-control-socket', { directory: plan.directory, error });
    return null;
  }
}

/**
 * Serves `plan.directory` until SIGINT or SIGTERM, then refuses new requests, finishes those in flight, flushes and closes.
 * Resolves with the exit code: 0, or 1 when closing failed. Rejects when it could not start; then nothing runs any more.
 */
export async function runServer(plan: ServePlan, terminal: Terminal): Promise<number> {
  const addresses: ListenAddress[] = [...plan.addresses.map(parseTcpAddress), ...plan.sockets.map((path) => ({ kind: 'unix', path }) as const)];
  const logger = createJsonLogger(plan.logLevel, (line) => terminal.error(line));
  endOnBug(logger);
  const env = createNodeEnv({ logger, workerEntry: workerEntry(), workerThreads: plan.settings.process.workerThreads });
  if (!(await env.files.exists(plan.directory))) {
    throw new VolumeError('not-found', `directory ${plan.directory} is not there; basalt create makes it with its first volume, --data names another`);
  }
  const volumes = new VolumeSet({ env, directory: plan.directory, settings: plan.settings.engine });
  const server = new NbdServer({ directory: volumes, settings: plan.settings.server, logger });
  const listeners: string[] = [];
  const startedMs = env.clock.wallMs();
  const info = (): ServerInfo => ({ apiVersion: 1, pid: process.pid, startedMs, directory: resolve(plan.directory), listeners, connections: server.connectionCount });
  const control = await startControl(plan, env, { volumes, server: info });
  const running = { server, control, volumes, env };
  const stop = listenForStop((signal) => logger.log('warn', 'stopped-at-once', { signal }));
  try {
    const names = (await volumes.list()).map(({ name }) => name);
    for (const address of addresses) {
      const listener = await server.listen(address);
      listeners.push(listener.uri);
      terminal.out(formatListener(listener, plan.json));
    }
    logger.log('info', 'serving', { directory: plan.directory, volumes: names.length, pid: process.pid });
  } catch (error) {
    await end(running, 0);
    stop.dispose();
    throw error;
  }
  const signal = await stop.signal;
  const { stopGraceMs } = plan.settings.process;
  logger.log('info', 'stopping', { signal, connections: server.connectionCount, graceMs: stopGraceMs });
  try {
    await end(running, stopGraceMs);
  } catch (error) {
    logger.log('error', 'stop-failed', { error });
    return EXIT.failure;
  }
  logger.log('info', 'stopped', {});
  return EXIT.ok;
}

/** A broken assumption ends the process, said as one line of the log; the log of the volumes is replayed at the next start. */
function endOnBug(logger: Logger): void {
  process.on('uncaughtException', (error) => {
    logger.log('error', 'bug', { message: error.message, stack: error.stack ?? '' });
    process.exit(EXIT.failure);
  });
}
