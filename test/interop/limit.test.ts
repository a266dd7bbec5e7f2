/** Limits of volumes, as other projects' clients meet them. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { at } from '../support/json-schema.ts';
import { hasMappings } from '../support/mappings.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { basalt, basaltOk, RealServer } from './real-server.ts';
import { interopTest, runOk } from './tools.ts';

let server: RealServer;

beforeEach(async () => {
  server = await RealServer.create();
});
afterEach(() => server.dispose());

const data = (): readonly string[] => ['--data', server.dataDirectory];

async function json(...words: readonly string[]): Promise<unknown> {
  const value: unknown = JSON.parse(await basaltOk(...words, '--json', ...data()));
  return value;
}

/** One job of fio over a whole volume, and how long it took. */
async function fio(volume: string, ...words: readonly string[]): Promise<{ readonly seconds: number; readonly requests: number }> {
  const out = await runOk('fio', '--name=job', '--ioengine=nbd', `--uri=${server.unix(volume)}`, '--output-format=json', ...words);
  const report: unknown = JSON.parse(out.slice(out.indexOf('{')));
  const jobs = at(report, ['jobs']);
  const number = (...path: readonly string[]): number => (Array.isArray(jobs) ? Number(at(jobs[0], path)) : Number.NaN);
  return { seconds: number('job_runtime') / 1000, requests: number('read', 'total_ios') + number('write', 'total_ios') };
}

describe('limits', () => {
  interopTest(['fio'], 'hold a client to its rate, change while it works, and are told of', async () => {
    await json('create', 'demo', '16M', '--iops', '200', '--iops-burst', '20');
    await server.start();
    const limited = await fio('demo', '--rw=randwrite', '--bs=4k', '--iodepth=16', '--size=16M', '--number_ios=420');
    // 20 at once and 400 more take two seconds; nothing here bounds how much longer a busy machine takes.
    expect(limited.requests).toBe(420);
    expect(limited.seconds).toBeGreaterThan(1.9);
    expect(await json('stats', 'demo')).toMatchObject({ limits: { operationsPerSecond: 200, burstOperations: 20 } });
    expect(Number(at(await json('stats', 'demo'), ['requests', 'throttled']))).toBeGreaterThan(100);

    const slow = fio('demo', '--rw=read', '--bs=64k', '--iodepth=4', '--size=16M', '--number_ios=250');
    expect(await json('limit', 'demo', '--iops', '1', '--iops-burst', '1')).toMatchObject({ limits: { operationsPerSecond: 1 } });
    await json('limit', 'demo', '--iops', 'none');
    // At one request a second it would take four minutes.
    expect((await slow).seconds).toBeLessThan(60);
    expect(await json('show', 'demo')).toMatchObject({ limits: { operationsPerSecond: null, burstOperations: null } });
  });

  interopTest(['fio'], 'count bytes whatever the size of requests, and outlive a restart', async () => {
    await json('create', 'demo', '16M');
    await json('limit', 'demo', '--bandwidth', '4M', '--bandwidth-burst', '1M');
    await server.start();
    const { seconds } = await fio('demo', '--rw=write', '--bs=1M', '--iodepth=4', '--size=16M');
    expect(seconds).toBeGreaterThan(3.2); // 1 MiB at once, one that makes a debt, 14 MiB at 4 MiB a second
    expect(await basaltOk('show', 'demo', ...data())).toMatch(/^limits +4 MiB a second \(1 MiB at once\)$/mu);
  });

  test.runIf(hasMappings())('do not let a client that has left write over what came after it', async () => {
    await json('create', 'demo', '1M', '--iops', '10', '--iops-burst', '1');
    await server.start();
    const [first, second] = [await NbdClient.open({ path: server.socketPath }, 'demo'), await NbdClient.open({ path: server.socketPath }, 'demo')];
    for (let count = 0; count < 5; count += 1) first.write(0, Buffer.alloc(4096, 1)).catch(() => undefined); // it leaves before the answer
    await delay(50);
    first.socket.end();
    await second.write(0, Buffer.alloc(4096, 2));
    expect(await basaltOk('limit', 'demo', '--iops', 'none', ...data())).toContain('none');
    await second.flush();
    await delay(100);
    expect((await second.read(0, 4096)).every((byte) => byte === 2)).toBe(true);
    await second.close();
  });

  test.each([
    [['limit', 'none', '--iops', '5'], 1, 'there is no volume "none"'],
    [['limit', 'demo', '--iops', 'many'], 2, 'iops "many": give a whole number of requests, such as 500, or none'],
    [['limit', 'demo', '--iops', '0'], 2, 'operationsPerSecond 0: give a whole number from 1'],
    [['limit', 'demo', '--bandwidth', '1K'], 2, 'bytesPerSecond 1024: give a whole number from 4096'],
    [['limit', 'demo', '--iops-burst', '5'], 2, 'a burst of operations goes with a limit'],
    [['create', 'more', '1M', '--bandwidth-burst', '5M'], 2, 'a burst of bytes goes with a limit'],
  ] as const)('%j is refused', async (words, status, message) => {
    await json('create', 'demo', '1M');
    const refused = await basalt(...words, ...data());
    expect(refused).toMatchObject({ status, out: '' });
    expect(refused.error).toContain(message);
    expect(await json('limit', 'demo')).toEqual({ name: 'demo', limits: { operationsPerSecond: null, burstOperations: null, bytesPerSecond: null, burstBytes: null } });
    expect(await json('list')).toHaveLength(1);
  });
});
