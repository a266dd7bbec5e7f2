import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import type { SimReadOnlyVolume } from '../sim/engine.ts';
import { type ChangeRequest, Model } from '../sim/model.ts';
import { OpeningRot, checkNamesFile, checkReadOnly } from '../sim/opening-rot.ts';
import { makePayload } from '../sim/payload.ts';
import { SeededRandom } from '../sim/random.ts';

const BLOCK = 512;
const BLOCKS = 4;

/** LSN 1 to 4 write blocks 0, 1, 0, 1. */
function written(): { model: Model; version: (lsn: number) => Uint8Array } {
  const model = new Model({ blockCount: BLOCKS, blockSizeBytes: BLOCK });
  const versions: Uint8Array[] = [new Uint8Array(BLOCK)];
  for (let lsn = 1; lsn <= 4; lsn += 1) {
    const blockNumber = (lsn + 1) % 2;
    const payload = makePayload('stamped', lsn, blockNumber * BLOCK, BLOCK);
    const request: ChangeRequest = { id: lsn, kind: 'write', offsetBytes: blockNumber * BLOCK, lengthBytes: BLOCK, fua: false, payload, covered: [], askedAtLsn: 0, lsn: 0 };
    model.accept({ kind: 'write', lsn, blockNumber, blockCount: 1 }, request);
    versions.push(payload);
  }
  return { model, version: (lsn) => versions[lsn] };
}

/** Reads the given contents, or fails with the given error. */
function volumeOf(contents: ReadonlyMap<number, Uint8Array | VolumeError>): Pick<SimReadOnlyVolume, 'read'> {
  return {
    read: (offsetBytes, target) => {
      const found = contents.get(offsetBytes / BLOCK);
      if (found instanceof VolumeError) return Promise.reject(found);
      target.set(found ?? new Uint8Array(BLOCK));
      return Promise.resolve();
    },
  };
}

function check(model: Model, contents: readonly [number, Uint8Array | VolumeError][], leastLsn: number): Promise<number> {
  return checkReadOnly({ model, directory: '/v' }, volumeOf(new Map(contents)), leastLsn, () => undefined);
}

describe('what is read through a volume that is open for reading', () => {
  test('is right if it is of one state that is no older than what is owed', async () => {
    const { model, version } = written();
    expect(await check(model, [[0, version(3)], [1, version(4)]], 4)).toBe(0);
    expect(await check(model, [[0, version(3)], [1, version(2)]], 3)).toBe(0);
  });

  test('is wrong if it is older', async () => {
    const { model, version } = written();
    await expect(check(model, [[0, version(3)], [1, version(2)]], 4)).rejects.toThrow(/served read-only.*block 1/s);
  });

  test('is wrong if two blocks are of no common state', async () => {
    const { model, version } = written();
    await expect(check(model, [[0, version(1)], [1, version(4)]], 0)).rejects.toThrow(/block 1/);
  });

  test('is wrong if it was never written', async () => {
    const { model, version } = written();
    await expect(check(model, [[0, version(3)], [1, version(4)], [3, version(1)]], 0)).rejects.toThrow(/block 3/);
  });

  test('may fail to be read, with the name of a file', async () => {
    const { model, version } = written();
    const rotten = new VolumeError('corrupt', 'chunks/c0000000001-e000001: checksum 1, expected 2');
    expect(await check(model, [[0, rotten], [1, version(4)]], 4)).toBe(1);
    await expect(check(model, [[0, new VolumeError('corrupt', 'something is wrong')], [1, version(4)]], 4)).rejects.toThrow(/names no file/);
  });
});

/** Rot that strikes reads of the log, and how often it did since the opening began; and a read of another file. */
function strikes(count: number, also: string | null = null): OpeningRot {
  for (let seed = 1; ; seed += 1) {
    const rot = new OpeningRot('/v', new SeededRandom(seed));
    rot.begin();
    const call = { kind: 'read', path: '/v/log/00.log', offsetBytes: 0, lengthBytes: 512, inTurn: false } as const;
    let struck = 0;
    for (let i = 0; i < 50 && struck < count; i += 1) {
      const fault = rot.decide(call);
      if (fault === null) continue;
      rot.delivered(call, fault);
      struck += 1;
    }
    if (also !== null) {
      const fault = rot.decide({ ...call, path: also });
      if (fault === null) continue;
      rot.delivered({ ...call, path: also }, fault);
    }
    if (struck === count) return rot;
  }
}

describe('rot at an opening', () => {
  const state = { claims: new Map([[9, 5]]), isMarked: false };
  const owed = { lsn: 9, reason: 'a flush' };

  test('in no log leaves all that is owed owed', () => {
    expect(strikes(0).noticedLsn(state, owed)).toBe(9);
  });

  test('in a record of the log is noticed where the last record that is owed calls it durable', () => {
    expect(strikes(1).noticedLsn(state, owed)).toBe(5);
  });

  test('in several reads of the log may hide whatever would tell', () => {
    expect(strikes(2).noticedLsn(state, owed)).toBe(0);
  });

  test('in a log is noticed, however much there is of it, where the volume was closed', () => {
    expect(strikes(1).noticedLsn({ ...state, isMarked: true }, owed)).toBe(9);
    expect(strikes(2).noticedLsn({ ...state, isMarked: true }, owed)).toBe(9);
    expect(strikes(2, '/v/log/synced').noticedLsn({ ...state, isMarked: true }, owed)).toBe(0);
  });

  test('excuses no error that names no file', () => {
    expect(strikes(1).excuses(new VolumeError('failed', 'log file 3, byte 4096: the log changed'))).toBe(true);
    expect(strikes(1).excuses(new VolumeError('failed', 'it failed'))).toBe(false);
    expect(strikes(0).excuses(new VolumeError('failed', 'log file 3, byte 4096: the log changed'))).toBe(false);
    expect(() => checkNamesFile(new VolumeError('corrupt', 'log file 3, byte 4096'), 'opening')).not.toThrow();
  });
});
