#!/usr/bin/env node
/** The `basalt` command. What a verb needs is loaded when it runs: `--help` starts without the engine. */
import { readFile, writeFile } from 'node:fs/promises';
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import type { CliContext, DeviceTools, OpenVolumesOptions, PkiPlan, RunningServer, ServePlan, VolumeManager, VolumeTools } from './context.ts';
import type { DiskUse } from './disk-life.ts';
import type { Host } from './doctor/host.ts';
import type { Measured } from './choose-profile.ts';
import type { OnProgress } from '../volume/volume-info.ts';
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

async function writeNewFile(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'wx' });
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw new VolumeError('already-exists', `${path} is there already, and stays; name another file`, { cause: error });
    throw toVolumeError(error, `writing ${path}`);
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
  readProfile: (name) => readFile(new URL(`../../config/${name}.toml`, import.meta.url), 'utf8'),
  writeNewFile,
  async measureMachine(directory: string, onProgress: OnProgress): Promise<Measured> {
    const { measureMachine } = await import('./measure-machine.ts');
    return measureMachine(directory, onProgress);
  },
  async diskUse(directory: string): Promise<DiskUse | null> {
    const { readDiskUse } = await import('./disk-life.ts');
    return readDiskUse(directory);
  },
  async openHost(): Promise<Host> {
    const { thisHost } = await import('./doctor/host.ts');
    return thisHost();
  },
  sleep: (delayMs) => new Promise((resolve) => void setTimeout(resolve, delayMs)),
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
