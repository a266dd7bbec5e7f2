import { afterAll, beforeAll, describe, expect } from 'vitest';
import { RealServer } from './real-server.ts';
import { interopTest, runOk, runTool } from './tools.ts';

let server: RealServer;

beforeAll(async () => {
  server = await RealServer.create();
  await server.createVolume('tcp', '64M');
  await server.createVolume('unix', '64M');
  await server.start();
});
afterAll(() => server.dispose());

const transports = [
  { transport: 'tcp', uri: () => server.tcp('tcp') },
  { transport: 'unix', uri: () => server.unix('unix') },
];

/** Runs one fio job in the temporary directory, where it leaves its verify state; it fails when a block is not what was written. */
async function fio(uri: string, ...job: string[]): Promise<void> {
  const common = ['--name=verify', '--ioengine=nbd', `--uri=${uri}`, '--verify=crc32c', '--verify_fatal=1', '--do_verify=1', `--aux-path=${server.directory}`];
  const { status, out, error } = await runTool('fio', [...common, '--verify_state_save=0', ...job]);
  expect(status, out + error).toBe(0);
  expect(out + error).not.toMatch(/verify: bad|verify failed/i);
}

describe.each(transports)('fio on $transport verifies', ({ uri }) => {
  interopTest(['fio'], 'random writes of 4 KiB, 32 at a time', () => fio(uri(), '--rw=randwrite', '--bs=4k', '--size=32M', '--iodepth=32'));

  interopTest(['fio'], 'random writes of many sizes and alignments, with flushes', () =>
    fio(uri(), '--rw=randwrite', '--bsrange=512-128k', '--blockalign=512', '--size=32M', '--iodepth=16', '--fsync=50', '--norandommap=0'));

  interopTest(['fio'], 'mixed reads and writes', () => fio(uri(), '--rw=randrw', '--bs=16k', '--size=24M', '--iodepth=16'));

  interopTest(['fio'], 'sequential writes of 1 MiB', () => fio(uri(), '--rw=write', '--bs=1m', '--size=48M', '--iodepth=4'));
});

describe('fio', () => {
  // All that `fio --cmdhelp=rw` names; what is trimmed and written again is verified.
  for (const mode of ['write', 'randwrite', 'rw', 'randrw', 'trimwrite', 'randtrimwrite', 'read', 'randread']) {
    const unverified = mode.endsWith('read') ? ['--verify=0', '--do_verify=0'] : [];
    interopTest(['fio'], `runs rw=${mode}`, () => fio(server.unix('unix'), `--rw=${mode}`, '--bs=16k', '--size=16M', '--iodepth=8', ...unverified));
  }
  for (const mode of ['trim', 'randtrim']) {
    interopTest(['fio', 'nbdinfo'], `runs rw=${mode}, which leaves a hole`, async () => {
      await fio(server.unix('unix'), '--rw=write', '--bs=1M', '--size=20M');
      await fio(server.unix('unix'), `--rw=${mode}`, '--bs=16k', '--size=16M', '--iodepth=8', '--verify=0', '--do_verify=0');
      const [offset, length, type] = (await runOk('nbdinfo', '--map', server.unix('unix'))).trim().split(/\s+/).map(Number);
      expect([offset, length, type]).toEqual([0, 16 * 1024 * 1024, 3]);
    });
  }

  interopTest(['fio'], 'verifies four connections that write their own parts of one volume', async () => {
    await Promise.all(
      [0, 1, 2, 3].map((index) => fio(server.tcp('tcp'), '--rw=randwrite', '--bs=4k', '--size=12M', `--offset=${index * 16}M`, '--iodepth=8', `--randseed=${index}`)),
    );
  });

  interopTest(['fio'], 'runs four jobs in one process, which share a volume', () =>
    fio(server.tcp('tcp'), '--rw=randrw', '--bs=8k', '--size=12M', '--offset_increment=16M', '--numjobs=4', '--iodepth=16', '--thread', '--group_reporting'));
});
