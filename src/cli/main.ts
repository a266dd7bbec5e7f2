#!/usr/bin/env node
/** The `basalt` command. What a verb needs is loaded when it runs: `--help` starts without the engine. */
import { readFile } from 'node:fs/promises';
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import type { CliContext, DeviceTools, OpenVolumesOptions, PkiPlan, RunningServer, ServePlan, VolumeManager, VolumeTools } from './context.ts';
import { takeActivation } from '../server/activation.ts';
import { runCli } from './program.ts';
import { createTerminal } from './terminal.ts';

async function readConfigFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw new VolumeError('not-found', `config file ${path} is not there`, { cause: error });
    throw toVolumeError(error, `config file ${path}`);
  }
}

async function readVersion(): Promise<string> {
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  const manifest: unknown = JSON.parse(text);
  if (typeof manifest === 'object' && manifest !== null && 'version' in manifest) return String(manifest.version);
  return 'unknown';
}

const terminal = createTerminal();

const context: CliContext = {
  terminal,
  environment: process.env,
  readFile: readConfigFile,
  async makePki(plan: PkiPlan): Promise<readonly string[]> {
    const { writePki } = await import('./write-pki.ts');
    return writePki(plan, Date.now());
  },
  takeActivation: () => takeActivation(process.env, process.pid),
  async openVolumes(options: OpenVolumesOptions): Promise<VolumeManager> {
    const { openVolumes } = await import('./open-volumes.ts');
    return openVolumes(options, terminal);
  },
  async findServer(directory: string): Promise<RunningServer | null> {
    const { ControlClient } = await import('../control/control-client.ts');
    return ControlClient.find(directory);
  },
  async openTools(options: OpenVolumesOptions): Promise<VolumeTools> {
    const tools = await import('./open-tools.ts');
    return tools.openTools(options, terminal);
  },
  async openAttach(): Promise<DeviceTools> {
    const { openAttach } = await import('./open-attach.ts');
    return openAttach(terminal);
  },
  async serve(plan: ServePlan): Promise<number> {
    const { runServer } = await import('./run-server.ts');
    return runServer(plan, terminal);
  },
};

process.exitCode = await runCli(process.argv.slice(2), context, await readVersion());
