import { cpSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openVolume } from '../../src/volume/open-volume.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { Scratch, nodeEnv, readAll, smallArena, snapshot } from '../support/engine-harness.ts';
import { SAMPLE_SETTINGS, makeSample, sampleStates } from '../support/make-sample.ts';

const [SAMPLE, SAMPLE_2, SAMPLE_3] = ['sample', 'sample-2', 'sample-3'].map((name) => fileURLToPath(new URL(`../../volumes/${name}`, import.meta.url)));

if (process.env.BASALT_WRITE_SAMPLE === '1') {
  await makeSample(SAMPLE);
  await makeSample(SAMPLE_2, 1, 'log');
  await makeSample(SAMPLE_3, 1, 'chunks');
}

let scratch: Scratch;
beforeEach(() => {
  scratch = new Scratch();
});
afterEach(() => scratch.remove());

function open(directory: string): Promise<Volume> {
  return openVolume({ env: nodeEnv(), directory, settings: SAMPLE_SETTINGS, arena: smallArena(SAMPLE_SETTINGS) });
}

describe.each([
  ['version 1 in volumes/sample', SAMPLE, 1, 1],
  ['version 2 of the log in volumes/sample-2', SAMPLE_2, 2, 1],
  ['version 2 of chunks in volumes/sample-3', SAMPLE_3, 1, 2],
])('the volume of format %s', (_, sample, logVersion, chunkVersion) => {
  test('has every kind of file, and is small', () => {
    const files = snapshot(sample);
    const kinds = ['manifest', 'checkpoints/', 'chunks/', 'log/'].map((kind) => [...files.keys()].filter((name) => name.startsWith(kind)).length);
    expect(kinds).toEqual([1, 1, 3, 3]);
    const logs = [...files].filter(([name, bytes]) => name.startsWith('log/') && bytes.length > 0);
    expect(logs.map(([, bytes]) => Buffer.from(bytes).readUInt32LE(8))).toEqual(logs.map(() => logVersion));
    expect(logs).not.toEqual([]);
    const chunks = [...files].filter(([name]) => name.startsWith('chunks/'));
    expect(chunks.map(([, bytes]) => Buffer.from(bytes).readUInt32LE(8))).toEqual(chunks.map(() => chunkVersion));
    expect([...files.values()].reduce((sum, bytes) => sum + bytes.length, 0)).toBeLessThan(200 * 1024);
  });

  test('opens and holds what it always held, before and after it was closed', async () => {
    const directory = `${scratch.path}/sample`;
    cpSync(sample, directory, { recursive: true });
    for (let opening = 0; opening < 2; opening += 1) {
      const volume = await open(directory);
      const content = await readAll(volume);
      await volume.close();
      expect(content.equals(sampleStates().at(-1) ?? Buffer.alloc(0)), `opening ${opening}`).toBe(true);
    }
  });
});
