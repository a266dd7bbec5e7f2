import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Card } from '../../bench/card.ts';
import { MIB } from '../../src/base/units.ts';
import { basalt, basaltOk } from './real-server.ts';
import { interopTest } from './tools.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-tune-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** Why no card can be made here. */
const obstacle = process.getuid?.() === 0 ? null : 'making a card takes root';

interopTest(['nbdkit', 'nbdfuse', 'losetup', 'mkfs.ext4', 'cc'], 'the profile for cards is proposed on an emulated card, and nothing stays on it', async () => {
  const card = new Card(directory, { sizeBytes: 400 * MIB, rateBytes: 20_000_000, flushUs: 5000 });
  try {
    await card.whileFast(() => card.insert());
    const before = await readdir(card.mountPath);
    const advice: unknown = JSON.parse(await basaltOk('tune', card.mountPath, '--json', '--write', join(directory, 'card.toml')));
    expect(advice).toMatchObject({ profile: 'jetson-sd', facts: { fileSystem: 'ext4' } });
    expect(await readdir(card.mountPath)).toEqual(before);
    await basaltOk('create', 'demo', '64M', '--data', join(card.mountPath, 'volumes'), '--config', join(directory, 'card.toml'));
    expect(await basaltOk('show', 'demo', '--data', join(card.mountPath, 'volumes'))).toContain('64 MiB');
  } finally {
    await card.remove();
  }
}, obstacle);

test('the disk of this machine is measured within bounds, and nothing stays on it', async () => {
  const advice: unknown = JSON.parse(await basaltOk('tune', directory, '--json'));
  expect(advice).toMatchObject({ directory, written: null, machine: {} });
  // What it is depends on the disk; that a setting is written for it does not.
  await basaltOk('tune', directory, '--write', join(directory, 'here.toml'));
  expect(await readdir(directory)).toEqual(['here.toml']);
  expect(await readFile(join(directory, 'here.toml'), 'utf8')).toContain('# Proposed by basalt tune');
});

test('a directory that is not there, or that is no directory, is told', async () => {
  const missing = await basalt('tune', join(directory, 'none'));
  expect([missing.status, missing.error]).toEqual([1, expect.stringContaining('is not there; make it, or name the one where volumes will be')]);
  const file = await basalt('tune', '/proc/self/mountinfo', '--json');
  expect([file.status, JSON.parse(file.error)]).toEqual([2, { error: { code: 'invalid-argument', message: '/proc/self/mountinfo is no directory; name the one where volumes are, or will be', context: {} } }]);
});
