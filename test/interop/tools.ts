/**
 * Tests that drive other projects' clients. A test whose tool is missing is skipped and says so; with
 * BASALT_REQUIRE_INTEROP=1 it fails instead, so that CI cannot pass by installing nothing.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { expect, test } from 'vitest';

/** The distribution's folders first: another python3 earlier on the path hides the one that nbdsh needs. */
const TOOL_PATH = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', process.env.PATH ?? ''].join(delimiter);
const TOOL_TIMEOUT_MS = 60_000;

export type Tool =
  | 'nbdinfo'
  | 'nbdcopy'
  | 'nbddump'
  | 'nbdfuse'
  | 'nbdsh'
  | 'nbdkit'
  | 'nbd-client'
  | 'qemu-nbd'
  | 'qemu-img'
  | 'qemu-io'
  | 'fio'
  | 'tshark'
  | 'fusermount3'
  | 'strace'
  | 'psktool'
  | 'certtool'
  | 'systemd-socket-activate'
  | 'systemd-analyze'
  | 'promtool'
  | 'losetup'
  | 'mkfs.ext4'
  | 'cc'
  | 'zsh'
  | 'fish'
  | 'bash';

function isInstalled(tool: Tool): boolean {
  return TOOL_PATH.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** A test that needs `tools`. `obstacle`: why this machine cannot run it, whatever is installed, or null. */
export function interopTest(tools: readonly Tool[], name: string, run: () => Promise<void>, obstacle: string | null = null): void {
  const missing = tools.filter((tool) => !isInstalled(tool));
  const isRequired = process.env.BASALT_REQUIRE_INTEROP === '1';
  const why = obstacle ?? (missing.length === 0 ? null : `not installed: ${missing.join(', ')}`);
  const title = why === null ? name : `${name} (${why})`;
  test.skipIf(obstacle !== null || (missing.length > 0 && !isRequired))(title, { timeout: 2 * TOOL_TIMEOUT_MS }, async () => {
    expect(missing, 'BASALT_REQUIRE_INTEROP asks for every tool').toEqual([]);
    await run();
  });
}

export interface ToolResult {
  readonly status: number | string;
  readonly out: string;
  readonly error: string;
}

export const TOOL_ENVIRONMENT: NodeJS.ProcessEnv = { ...process.env, PATH: TOOL_PATH, LC_ALL: 'C' };

/** Runs a tool to its end, whatever its status. */
export function runTool(tool: Tool, words: readonly string[], input = ''): Promise<ToolResult> {
  return runProgram(tool, words, input);
}

/** The same for any program, by its name or path. */
export function runProgram(program: string, words: readonly string[], input = '', timeoutMs = TOOL_TIMEOUT_MS): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { env: TOOL_ENVIRONMENT, timeout: timeoutMs, killSignal: 'SIGKILL' });
    let out = '';
    let error = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (error += text));
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ status: code ?? signal ?? 'unknown', out, error }));
    // One that ends without reading all of its input says why by its status.
    child.stdin.on('error', (cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EPIPE') reject(cause);
    });
    child.stdin.end(input);
  });
}

/** Runs a tool that must succeed; returns what it printed. */
export async function runOk(name: Tool, ...words: string[]): Promise<string> {
  const { status, out, error } = await runTool(name, words);
  expect(status, `${name} ${words.join(' ')}\n${out}${error}`).toBe(0);
  return out;
}
