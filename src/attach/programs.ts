/** Other programs that attaching may need: modprobe, and nbd-client where netlink is out of reach. */
import { spawn } from 'node:child_process';
import { systemCode, VolumeError } from '../base/errors.ts';
import type { NbdAddress } from '../protocol/uri.ts';
import type { AttachOptions } from './attacher.ts';

/** Where administrators' programs are, also for those whose PATH does not say so. */
const ADMIN_PATH = '/usr/local/sbin:/usr/sbin:/sbin';
const PROGRAM_MS_MAX = 60_000;

export interface ProgramResult {
  readonly status: number | null;
  readonly output: string;
}

/** Runs a program to its end; rejects with `unsupported` if it is not installed. */
export type RunProgram = (program: string, words: readonly string[]) => Promise<ProgramResult>;

export const runProgram: RunProgram = (program, words) =>
  new Promise((resolve, reject) => {
    const child = spawn(program, [...words], { stdio: ['ignore', 'pipe', 'pipe'], timeout: PROGRAM_MS_MAX, env: { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? '/usr/bin:/bin'}:${ADMIN_PATH}` } });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => void (output += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => void (output += text));
    child.on('error', (error) => {
      if (systemCode(error) === 'ENOENT') reject(new VolumeError('unsupported', `the program ${program} is not installed`, { cause: error }));
      else reject(error);
    });
    child.on('close', (status) => resolve({ status, output: output.trim() }));
  });

const NO_MODULE =
  'install the package that has it (Ubuntu: linux-modules-extra-$(uname -r); Fedora: kernel-modules-extra; Jetson, WSL: a kernel built with CONFIG_BLK_DEV_NBD=m), or use a client without it: nbdfuse, qemu';

/** Loads the module nbd. Errors: `denied` without root, `unsupported` if there is none. */
export async function loadModule(run: RunProgram): Promise<void> {
  const { status, output } = await run('modprobe', ['nbd']).catch((error: unknown) => {
    if (error instanceof VolumeError) throw new VolumeError('unsupported', `the kernel module nbd is not loaded, and ${error.message}: load it, or install kmod`, { cause: error });
    throw error;
  });
  if (status === 0) return;
  if (/permission|not permitted/i.test(output)) throw new VolumeError('denied', 'the kernel module nbd is not loaded, and loading it needs root: sudo modprobe nbd');
  throw new VolumeError('unsupported', `this kernel has no module nbd (modprobe says: ${output === '' ? 'nothing' : output}): ${NO_MODULE}`);
}

function addressWords(address: NbdAddress): string[] {
  return 'path' in address ? ['-unix', address.path] : [address.host, String(address.port)];
}

/** The command line of nbd-client that attaches a device. Requests that no server answers fail after its time limit, and the device with them. */
export function nbdClientWords({ target, connections, blockSizeBytes, deadTimeoutSeconds }: AttachOptions, path: string): string[] {
  return ['-N', target.exportName, ...addressWords(target.address), path, '-b', String(blockSizeBytes), '-timeout', String(deadTimeoutSeconds), ...(connections > 1 ? ['-C', String(connections)] : [])];
}

export async function runNbdClient(run: RunProgram, words: readonly string[]): Promise<void> {
  const { status, output } = await run('nbd-client', words);
  if (status !== 0) throw new VolumeError('io-error', `nbd-client ${words.join(' ')} ended with status ${status}: ${output === '' ? 'it says nothing' : output.split('\n').at(-1)}`);
}
