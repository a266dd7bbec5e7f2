/** `basalt scrub`, and what `list` and `show` say of damaged volumes. */
import { beforeEach, describe, expect, test } from 'vitest';
import type { RottenPlace, ScrubReport } from '../../src/volume/volume-info.ts';
import type { VolumeTools } from '../../src/cli/context.ts';
import { runCli } from '../../src/cli/program.ts';
import { FakeCli, NOT_ASKED, notAsked } from '../support/cli-double.ts';
import { SimMachine } from '../support/engine-harness.ts';

const CREATE = { sizeBytes: 1024 * 1024, blockSizeBytes: 4096, durability: 'batched' } as const;
const CLEAN: ScrubReport = { volume: 'demo', isClean: true, chunks: 3, blocks: 40, pages: 4, mappedBlocks: 38, bytes: 200_000, rotten: [], rottenCount: 0, rewrittenCount: 0, elapsedMs: 1234 };
const PLACE: RottenPlace = { file: 'chunks/c0000000001-e000001', chunk: 1, blockNumber: 7, offsetBytes: 8192, problem: 'checksum 11111111, expected 22222222', inUse: true, rewritten: 0 };

let cli: FakeCli;
beforeEach(async () => {
  cli = new FakeCli();
  await cli.volumes.create('demo', CREATE);
});

describe('scrub', () => {
  const asked: unknown[] = [];
  function serve(report: ScrubReport): void {
    asked.length = 0;
    cli.server = { ...NOT_ASKED, scrub: (name, bytesPerSecond) => Promise.resolve(asked.push([name, bytesPerSecond])).then(() => report) };
  }

  test('asks the server, if one runs', async () => {
    serve(CLEAN);
    expect(await cli.run('scrub', 'demo')).toBe(0);
    expect(cli.out).toBe('demo: everything is as it was written (3 chunks, 40 blocks, manifest, 4 pages of the block map with 38 blocks, 195.3 KiB read in 1.2 s)\n');
    expect(await cli.run('scrub', 'demo', '--rate', '8M', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ ...CLEAN, live: true });
    expect(asked).toEqual([['demo', null], ['demo', 8 * 1024 * 1024]]);
  });

  test('takes the tools, if none runs', async () => {
    const options: unknown[] = [];
    const scrub: VolumeTools['scrub'] = (name, choice) => Promise.resolve(options.push([name, choice])).then(() => CLEAN);
    const tools = { scrub, close: () => Promise.resolve() };
    const context = { ...cli.context, openTools: () => Promise.resolve({ check: notAsked, explain: notAsked, repair: notAsked, ...tools }) };
    expect(await runCli(['scrub', 'demo', '--json'], context, '1.2.3')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ ...CLEAN, live: false });
    expect(options).toEqual([['demo', { bytesPerSecond: null }]]);
  });

  test.each<readonly [Partial<RottenPlace>, string]>([
    [{}, 'block 7: checksum 11111111, expected 22222222, at byte 8192\n    cannot be read; write it again from a backup, or trim it\n'],
    [{ rewritten: 1 }, 'block 7: checksum 11111111, expected 22222222, at byte 8192\n    written anew from memory\n'],
    [{ inUse: false }, 'block 7: checksum 11111111, expected 22222222, at byte 8192\n    no longer in use\n'],
    [{ inUse: null }, 'block 7: checksum 11111111, expected 22222222, at byte 8192\n    whether it is in use is not known\n'],
    [{ blockNumber: null, offsetBytes: null, problem: 'is missing' }, 'is missing\n    its blocks cannot be read\n'],
    [{ chunk: null, blockNumber: null, file: 'checkpoints/k0000000001-e000001' }, 'checksum 11111111, expected 22222222, at byte 8192\n    stop the server, if one runs, and run: basalt check demo\n'],
    [{ chunk: null, blockNumber: null, rewritten: 1 }, '\n    written anew from memory\n'],
    [{ blockNumber: null, rewritten: 2 }, '2 of its blocks were in memory and are written anew; others cannot be read\n'],
  ])('of something rotten exits with 1 and says what it means: %j', async (change, lines) => {
    serve({ ...CLEAN, isClean: false, rotten: [{ ...PLACE, ...change }], rottenCount: 3, rewrittenCount: change.rewritten ?? 0 });
    expect(await cli.run('scrub', 'demo')).toBe(1);
    expect(cli.out).toContain(lines);
    expect(cli.out).toMatch(/^demo: 3 places are rotten, \d blocks or pages were written anew \(3 chunks/u);
    expect(cli.out).toContain('  and 2 more\n');
    expect(await cli.run('scrub', 'demo', '--json')).toBe(1);
  });

  test.each([
    [['scrub', 'demo', '--rate', '1K'], /rate 1024 is less than 64 KiB a second/u],
    [['scrub', 'demo', '--rate', 'fast'], /rate: /u],
    [['scrub'], /usage: basalt scrub NAME/u],
    [['scrub', 'demo', '--rat', '1M'], /did you mean --rate\?/u],
  ])('%j is wrong usage', async (words, message) => {
    expect(await cli.run(...words)).toBe(2);
    expect(cli.error).toMatch(message);
  });
});

describe('a damaged volume', () => {
  const DAMAGE = 'chunk 3 is missing; basalt check demo says all that is wrong, basalt repair demo what can be saved';

  function damage(): void {
    const info = cli.volumes.infos.get('demo');
    if (info !== undefined) cli.volumes.infos.set('demo', { ...info, damage: DAMAGE });
  }

  test('is told of by show and list', async () => {
    damage();
    cli.volumes.unreadable.push({ name: 'worse', damage: 'its manifest is damaged' });
    expect(await cli.run('show', 'demo')).toBe(0);
    expect(cli.out).toMatch(new RegExp(`^damaged +${DAMAGE}$`, 'mu'));
    expect(await cli.run('list')).toBe(0);
    expect(cli.out).toMatch(/^worse +- +- +- +no +yes$/mu);
    expect(cli.out).toContain(`demo: ${DAMAGE}\nworse: its manifest is damaged\n`);
    expect(await cli.run('list', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject([{ name: 'demo', damage: DAMAGE, live: null }, { name: 'worse', damage: 'its manifest is damaged' }]);
  });

  test('that is served for reading is so in the list, and show says why once', async () => {
    const machine = new SimMachine();
    const status = await machine.run(async () => {
      await machine.create('/v');
      const volume = await machine.open('/v');
      await volume.close();
      return volume.status();
    });
    damage();
    const stats = { ...status.stats, scrubs: 2, scrubbedBytes: 3 * 1024 * 1024, rottenFound: 5, rottenRewritten: 4 };
    const details = { ...(await cli.volumes.describe('demo')), open: true, live: { ...status, stats, readOnly: DAMAGE }, space: null };
    cli.server = { ...NOT_ASKED, volume: () => Promise.resolve(details), volumes: () => Promise.resolve([details]) };
    expect(await cli.run('show', 'demo')).toBe(0);
    expect(cli.out).toMatch(new RegExp(`^read-only +${DAMAGE}$`, 'mu'));
    expect(cli.out).not.toMatch(/^damaged/mu);
    expect(cli.out).toMatch(/^scrubbed +2 times whole, 3 MiB; rotten: 5, written anew: 4$/mu);
    expect(await cli.run('list')).toBe(0);
    expect(cli.out).toMatch(/^demo .* read-only +yes$/mu);
  });
});
