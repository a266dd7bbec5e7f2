import { describe, expect, test } from 'vitest';
import { StraceParser, type SystemCall, descriptorPath, quotedBytes } from './strace-parser.ts';

function parse(...lines: string[]): { calls: SystemCall[]; end: string | null } {
  const calls: SystemCall[] = [];
  const parser = new StraceParser((call) => calls.push(call));
  for (const line of lines) parser.line(line);
  parser.finish();
  return { calls, end: parser.end?.how ?? null };
}

describe('a trace', () => {
  test('gives calls with their results, in the order of their ends', () => {
    const { calls, end } = parse(
      '77 fsync(18<\\x2f\\x61> <unfinished ...>',
      '9  mkdir("\\x2f\\x62", 0700)    = 0',
      '9  --- SIGCHLD {si_signo=SIGCHLD} ---',
      '77 <... fsync resumed>)            = -1 EIO (Input/output error)',
      '77 +++ exited with 0 +++',
    );
    expect(calls).toEqual([
      { name: 'mkdir', args: '"\\x2f\\x62", 0700', result: 0, began: 2, ended: 2 },
      { name: 'fsync', args: '18<\\x2f\\x61>', result: -1, began: 1, ended: 4 },
    ]);
    expect(end).toBe('exited with 0');
  });

  test('a call in which the process died has no end', () => {
    const { calls, end } = parse('7 pwrite64(3<\\x2f\\x61>, "\\x41", 1, 0 <unfinished ...>', '8 fsync(3<\\x2f\\x61>) = ?', '7 +++ killed by SIGKILL +++');
    expect(calls.map(({ name, result, ended }) => ({ name, result, ended }))).toEqual([
      { name: 'fsync', result: null, ended: Infinity },
      { name: 'pwrite64', result: null, ended: Infinity },
    ]);
    expect(end).toBe('killed by SIGKILL');
  });

  test('a line that is none is refused', () => {
    expect(() => parse('not a line')).toThrow('without a thread');
    expect(() => parse('7 <... fsync resumed>) = 0')).toThrow('did not begin');
    expect(() => parse('7 fsync(3)')).toThrow('without a result');
  });
});

describe('the arguments of a call', () => {
  test('hold bytes in quotes, which may not be cut short', () => {
    expect(quotedBytes('3<\\x2f\\x61>, [{iov_base="\\x00\\x22", iov_len=2}, {iov_base="", iov_len=0}], 2, 0').map((bytes) => [...bytes])).toEqual([[0, 0x22], []]);
    expect(() => quotedBytes('3, "\\x00"..., 4096')).toThrow('cut a string short');
  });

  test('begin with a descriptor and its path, or not', () => {
    expect(descriptorPath('19<\\x2f\\x64\\x2f\\x66>, "\\x00"')).toBe('/d/f');
    expect(descriptorPath('19<socket:[123]>, "\\x00"')).toBe('socket:[123]');
    expect(descriptorPath('AT_FDCWD<\\x2f>, "\\x2f"')).toBeNull();
  });
});
