/** The composition root of `basalt serve`: volumes, server, logger, and their end. */
import { resolve } from 'node:path';
import { VolumeError } from '../base/errors.ts';
import { workerEntry } from '../chunk/worker-entry.ts';
import { ControlServer } from '../control/control-server.ts';
import { EventFeed, tellingLogger } from '../control/events.ts';
import type { ControlTargets, ServerInfo } from '../control/routes.ts';
import type { ProcessUse } from '../control/stats.ts';
import { ControlSocket } from '../control/socket-file.ts';
import { ControlToken } from '../control/token.ts';
import { hasPeerLeft } from '../env/node-sockets.ts';
import { createJsonLogger, createNodeEnv } from '../env/node-env.ts';
import type { Env, Logger } from '../env/env.ts';
import { parseSocketPath, parseTcpAddress, type ListenAddress, type ListenerInfo } from '../server/listener.ts';
import { NbdServer } from '../server/nbd-server.ts';
import { openStdin } from '../server/stdin-socket.ts';
import { TlsCredentials, validityProblem } from '../server/tls-credentials.ts';
import { VolumeSet } from '../volume/volume-set.ts';
import { EXIT, type ServePlan, type Terminal } from './context.ts';
import { remoteAccess } from './remote-access.ts';
import { OpeningProgress } from './opening-progress.ts';
import { checkStdio, isClientOnStderr } from './stdio.ts';
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

async function end({ server, control, volumes, env }: Running, { graceMs, drain }: { readonly graceMs: number; readonly drain: boolean }): Promise<void> {
  await server.stop({ graceMs });
  const closed = async (): Promise<void> => {
    try {
      await volumes.close();
    } finally {
      // Last: until here the directory is not for another server.
      await control?.stop();
      await env.workers.close();
    }
  };
  try {
    if (drain) await volumes.drainAll();
  } finally {
    await closed();
  }
}

/**
 * Opens the control socket. Rejects with `in-use` if another process serves the directory; anything else that is wrong with it (a
 * file system without sockets, say) keeps nobody from serving: it is said, and there is none.
 */
async function startControl(plan: ServePlan, env: Env, targets: ControlTargets): Promise<ControlServer | null> {
  const { listen, tokenFile } = plan.settings.control;
  const tcp = listen === '' ? null : { ...controlAddress(listen), token: await ControlToken.read(tokenFile) };
  try {
    const socket = await ControlSocket.claim(env.files, plan.directory);
    return await ControlServer.start({ socket, targets, settings: plan.settings.control, logger: env.logger, tcp });
  } catch (error) {
    // Who asked for TCP wants it, or nothing.
    if (tcp !== null || !(error instanceof VolumeError) || error.code === 'in-use') throw error;
    env.logger.log('warn', 'no-control-socket', { directory: plan.directory, error });
    return null;
  }
}

function controlAddress(text: string): { readonly host: string; readonly port: number } {
  const address = parseTcpAddress(text);
  if (address.kind === 'tcp') return address;
  throw new VolumeError('invalid-argument', `control.listen = "${text}" is no HOST:PORT`);
}

/** Reads certificates and keys; a certificate that clients will not take is served all the same: this machine's clock may be wrong. */
async function loadCredentials({ settings: { server } }: ServePlan, { clock, logger }: Env): Promise<TlsCredentials | null> {
  if (server.tls === 'off') return null;
  const credentials = await TlsCredentials.load(server);
  const problem = validityProblem(credentials.current.certificate, clock.wallMs());
  if (problem !== null) logger.log('warn', 'tls-certificate', { message: `server-cert.pem ${problem}` });
  return credentials;
}

/** At SIGHUP certificates and keys are read again: for new connections, if they are good. Returns what ends that. */
function reloadOnHangup(credentials: TlsCredentials | null, { clock, logger }: Env): () => void {
  // Without TLS the signal means what it always does: the terminal is gone.
  if (credentials === null) return () => undefined;
  const reload = (): void => {
    credentials.reload(clock.wallMs()).then(
      () => logger.log('info', 'tls-reloaded', {}),
      (error: unknown) => logger.log('error', 'tls-not-reloaded', { error }),
    );
  };
  process.on('SIGHUP', reload);
  return () => process.off('SIGHUP', reload);
}

function addressesOf({ addresses, sockets, activated }: ServePlan): readonly ListenAddress[] {
  return [...addresses.map(parseTcpAddress), ...sockets.map(parseSocketPath), ...activated.map((fd) => ({ kind: 'fd', fd }) as const)];
}

/** How it ends: by a signal; with `--stdio`, when its client has gone. */
async function untilEnd(plan: ServePlan, server: NbdServer, signal: Promise<string>): Promise<string> {
  if (!plan.stdio) return signal;
  return Promise.race([signal, server.serve(openStdin(), 'stdio').then(() => 'client left')]);
}

/**
 * Serves `plan.directory` until SIGINT or SIGTERM, then refuses new requests, finishes those in flight, flushes and closes.
 * Resolves with the exit code: 0, or 1 when closing failed. Rejects when it could not start; then nothing runs any more.
 */
export async function runServer(plan: ServePlan, terminal: Terminal): Promise<number> {
  if (plan.stdio) checkStdio();
  if (!plan.stdio || !isClientOnStderr()) return serve(plan, terminal);
  // Whatever is said would be said to the client.
  return serve(plan, { ...terminal, error: () => undefined }).catch(() => EXIT.failure);
}

async function serve(plan: ServePlan, terminal: Terminal): Promise<number> {
  const addresses = addressesOf(plan);
  let openings: OpeningProgress | null = null;
  const events = new EventFeed();
  const logger = tellingLogger(createJsonLogger(plan.logLevel, (line) => {
    openings?.clear();
    terminal.error(line);
  }), events, (write) => createJsonLogger('info', write));
  endOnBug(logger);
  const env = createNodeEnv({ logger, workerEntry: workerEntry(), workerThreads: plan.settings.process.workerThreads });
  if (!(await env.files.exists(plan.directory))) {
    throw new VolumeError('not-found', `directory ${plan.directory} is not there; basalt create makes it with its first volume, --data names another`);
  }
  const credentials = await loadCredentials(plan, env);
  openings = new OpeningProgress({ clock: env.clock, logger, terminal });
  const volumes = new VolumeSet({ env, directory: plan.directory, settings: plan.settings.engine, watchOpening: openings.watch, remotes: remoteAccess(env, plan.settings.remote) });
  const server = new NbdServer({ directory: volumes, settings: plan.settings.server, exports: plan.settings.exports, credentials, logger, clock: env.clock, peerPoll: hasPeerLeft });
  const listeners: string[] = [];
  const startedMs = env.clock.wallMs();
  const info = (): ServerInfo => ({ apiVersion: 1, pid: process.pid, startedMs, directory: resolve(plan.directory), listeners, connections: server.connectionCount, halfOpen: server.halfOpenCount, clients: { ...server.counts } });
  const targets: ControlTargets = { volumes, server: info, traffic: server.traffic, throttles: server.throttles, memory: () => ({ ...volumes.memory(), ...server.memory() }), process: processUse, nowMs: () => env.clock.nowMs(), events };
  const control = await startControl(plan, env, targets);
  const running = { server, control, volumes, env };
  const endReloads = reloadOnHangup(credentials, env);
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
    await end(running, { graceMs: 0, drain: false });
    stop.dispose();
    throw error;
  }
  const signal = await untilEnd(plan, server, stop.signal);
  const { stopGraceMs } = plan.settings.process;
  logger.log('info', 'stopping', { signal, connections: server.connectionCount, graceMs: stopGraceMs });
  endReloads();
  try {
    await end(running, { graceMs: stopGraceMs, drain: plan.drain });
  } catch (error) {
    logger.log('error', 'stop-failed', { error });
    return EXIT.failure;
  }
  logger.log('info', 'stopped', {});
  return EXIT.ok;
}

function processUse(): ProcessUse {
  const { user, system } = process.cpuUsage();
  return { residentBytes: process.memoryUsage.rss(), userCpuMs: user / 1000, systemCpuMs: system / 1000 };
}

/** A broken assumption ends the process, said as one line of the log; the log of the volumes is replayed at the next start. */
function endOnBug(logger: Logger): void {
  process.on('uncaughtException', (error) => {
    logger.log('error', 'bug', { message: error.message, stack: error.stack ?? '' });
    process.exit(EXIT.failure);
  });
}
