import { describe, expect, test } from 'vitest';
import { Model, type ChangeRequest } from '../sim/model.ts';
import { Obligations } from '../sim/obligations.ts';
import { describePayload, makePayload } from '../sim/payload.ts';

const BLOCK = 4096;

function newModel(): Model {
  return new Model({ blockCount: 8, blockSizeBytes: BLOCK });
}

function write(id: number, offsetBytes: number, lengthBytes: number): ChangeRequest {
  return { id, kind: 'write', offsetBytes, lengthBytes, fua: false, payload: makePayload('stamped', id, offsetBytes, lengthBytes), covered: [], askedAtLsn: 0, lsn: 0 };
}

function trim(id: number, offsetBytes: number, lengthBytes: number): ChangeRequest {
  return { id, kind: 'trim', offsetBytes, lengthBytes, fua: false, payload: null, covered: [], askedAtLsn: 0, lsn: 0 };
}

describe('the model', () => {
  test('knows the content of a block after any prefix of the records', () => {
    const model = newModel();
    model.accept({ kind: 'write', lsn: 1, blockNumber: 2, blockCount: 1 }, write(1, 2 * BLOCK, BLOCK));
    model.accept({ kind: 'write', lsn: 2, blockNumber: 2, blockCount: 1 }, write(2, 2 * BLOCK, BLOCK));
    model.accept({ kind: 'zero', lsn: 3, blockNumber: 0, blockCount: 8 }, trim(3, 0, 8 * BLOCK));
    for (const [lsn, bytes] of [new Uint8Array(BLOCK), makePayload('stamped', 1, 2 * BLOCK, BLOCK), makePayload('stamped', 2, 2 * BLOCK, BLOCK), new Uint8Array(BLOCK)].entries()) {
      model.checkState(bytes, 2 * BLOCK, lsn, 'state');
    }
    expect(() => model.checkState(new Uint8Array(BLOCK), 2 * BLOCK, 2, 'state')).toThrow(/expected: LSN 2 of request 2\n {2}found: {4}LSN 3 of request 3 \(zeroes\)/);
  });

  test('merges a write of part of a block with what the block held before', () => {
    const model = newModel();
    const expected = makePayload('stamped', 1, 0, BLOCK).slice();
    const part = write(2, 100, 1000);
    expected.set(part.payload ?? [], 100);
    model.accept({ kind: 'write', lsn: 1, blockNumber: 0, blockCount: 1 }, write(1, 0, BLOCK));
    model.accept({ kind: 'write', lsn: 2, blockNumber: 0, blockCount: 1 }, part);
    model.checkState(expected, 0, 2, 'state');
    expected[50] ^= 1;
    expect(() => model.checkState(expected, 0, 2, 'state')).toThrow(/block 0 .*is not what it should be/);
  });

  test('allows a read each state that a block had since the read began, whole', () => {
    const model = newModel();
    const versions = [1, 2, 3].map((id) => write(id, 0, BLOCK));
    for (const request of versions) model.accept({ kind: 'write', lsn: request.id, blockNumber: 0, blockCount: 1 }, request);
    const [first, second, third] = versions.map((request) => request.payload ?? new Uint8Array(0));
    model.checkRead(second, 0, 2, 'read');
    model.checkRead(third, 0, 2, 'read');
    model.checkRead(third.subarray(512, 1024), 512, 2, 'read');
    expect(() => model.checkRead(first, 0, 2, 'read')).toThrow(/expected: LSN 2 of request 2, or LSN 3 of request 3/);
    const mixed = Buffer.concat([second.subarray(0, 512), third.subarray(512)]);
    expect(() => model.checkRead(mixed, 0, 2, 'read')).toThrow(/from byte 0: bytes of request 2; from byte 512: bytes of request 3/);
  });

  test('forgets what a crash took, gives its numbers out again and names it when it comes back', () => {
    const model = newModel();
    model.accept({ kind: 'write', lsn: 1, blockNumber: 0, blockCount: 1 }, write(1, 0, BLOCK));
    model.accept({ kind: 'write', lsn: 2, blockNumber: 0, blockCount: 1 }, write(2, 0, BLOCK));
    model.forgetAfter(1);
    expect(model.lastLsn).toBe(1);
    model.checkState(makePayload('stamped', 1, 0, BLOCK), 0, 1, 'state');
    expect(() => model.checkState(makePayload('stamped', 2, 0, BLOCK), 0, 1, 'state')).toThrow(/LSN 2 of request 2, which a crash took/);
    model.accept({ kind: 'write', lsn: 2, blockNumber: 1, blockCount: 1 }, write(3, BLOCK, BLOCK));
  });

  test('refuses records that are out of order, not asked for, or carried twice', () => {
    const model = newModel();
    const request = write(1, 0, 2 * BLOCK);
    expect(() => model.accept({ kind: 'write', lsn: 2, blockNumber: 0, blockCount: 1 }, request)).toThrow(/have a gap/);
    expect(() => model.accept({ kind: 'write', lsn: 1, blockNumber: 1, blockCount: 2 }, request)).toThrow(/not \(any more\) due/);
    model.accept({ kind: 'write', lsn: 1, blockNumber: 0, blockCount: 1 }, request);
    expect(() => model.complete(request)).toThrow(/no record carried block 1/);
    expect(() => model.accept({ kind: 'write', lsn: 2, blockNumber: 0, blockCount: 2 }, request)).toThrow(/not \(any more\) due/);
    model.accept({ kind: 'write', lsn: 2, blockNumber: 1, blockCount: 1 }, request);
    model.complete(request);
    expect(request.lsn).toBe(2);
  });

  test('refuses a record of zeroes for data that is not zero', () => {
    expect(() => newModel().accept({ kind: 'zero', lsn: 1, blockNumber: 1, blockCount: 1 }, write(1, BLOCK, BLOCK))).toThrow(/zeroes block 1, but request 1/);
  });

  test('lets a trim skip blocks that are zero, and makes it depend on what made them so', () => {
    const model = newModel();
    model.accept({ kind: 'write', lsn: 1, blockNumber: 0, blockCount: 1 }, write(1, 0, BLOCK));
    model.accept({ kind: 'zero', lsn: 2, blockNumber: 0, blockCount: 1 }, trim(2, 0, BLOCK));
    const again = { ...trim(3, 0, 4 * BLOCK), askedAtLsn: 2 };
    model.complete(again);
    expect(again.lsn).toBe(2);
    model.accept({ kind: 'write', lsn: 3, blockNumber: 0, blockCount: 1 }, write(4, 0, BLOCK));
    expect(() => model.complete({ ...trim(5, 0, BLOCK), askedAtLsn: 3 })).toThrow(/no record carried block 0/);
    model.complete({ ...trim(6, 0, BLOCK), askedAtLsn: 2 }); // it was zero when the client asked, and written only later
  });

  test('lets a trim touch only the blocks that lie whole in its range', () => {
    const model = newModel();
    expect(model.blocksOf(trim(1, 1, 3 * BLOCK))).toEqual({ first: 1, end: 3 });
    expect(model.blocksOf(trim(1, 1, BLOCK))).toEqual({ first: 1, end: 1 });
    expect(model.blocksOf(write(1, 1, BLOCK))).toEqual({ first: 0, end: 2 });
  });
});

describe('the obligations of a volume', () => {
  const answered = { id: 1, lsn: 5, fua: false, timeMs: 100 };

  test.each([
    ['strict', 5, 5],
    ['batched', 5, 0],
    ['relaxed', 5, 0],
    ['async', 0, 0],
  ] as const)('after an answered write in %s mode', (durability, process, power) => {
    const obligations = new Obligations({ durability, ageMs: null });
    obligations.writeAnswered(answered);
    expect([obligations.after('process', 200).lsn, obligations.after('power', 200).lsn]).toEqual([process, power]);
  });

  test('a flush owes what was answered when it was asked for, and nothing younger', () => {
    const obligations = new Obligations({ durability: 'relaxed', ageMs: null });
    obligations.writeAnswered(answered);
    const scope = obligations.flushScope();
    obligations.writeAnswered({ ...answered, id: 2, lsn: 6 });
    obligations.flushAnswered(scope);
    expect(obligations.after('power', 200)).toMatchObject({ lsn: 5, reason: 'a flush of LSN 5 was answered' });
  });

  test('FUA owes its own write after a power cut', () => {
    const obligations = new Obligations({ durability: 'relaxed', ageMs: null });
    obligations.writeAnswered({ ...answered, fua: true });
    expect(obligations.after('power', 200).lsn).toBe(5);
  });

  test('what a volume declares durable it owes in every mode', () => {
    const obligations = new Obligations({ durability: 'async', ageMs: null });
    obligations.declaredDurable(3);
    expect([obligations.after('process', 0).lsn, obligations.after('power', 0).lsn]).toEqual([3, 3]);
  });

  test('an old answered write is owed without a flush where the mode promises it', () => {
    const obligations = new Obligations({ durability: 'batched', ageMs: 50 });
    obligations.writeAnswered(answered);
    obligations.writeAnswered({ ...answered, id: 2, lsn: 6, timeMs: 140 });
    expect(obligations.after('power', 149).lsn).toBe(0);
    expect(obligations.after('power', 150).lsn).toBe(5);
    expect(obligations.after('power', 190).lsn).toBe(6);
    obligations.suspendAgeRule();
    expect(obligations.after('power', 190).lsn).toBe(0);
  });

  test('what was recovered after a power cut is owed after any crash; after a crash of the process only that may not take it', () => {
    const obligations = new Obligations({ durability: 'batched', ageMs: null });
    obligations.recovered(7, 'process');
    expect([obligations.after('process', 0).lsn, obligations.after('power', 0).lsn]).toEqual([7, 0]);
    obligations.recovered(6, 'power');
    expect([obligations.after('process', 0).lsn, obligations.after('power', 0).lsn]).toEqual([6, 6]);
  });
});

describe('what a volume says of itself', () => {
  test('is what was chosen last, or something that was asked for since', () => {
    const obligations = new Obligations({ durability: 'batched', compression: 'lz4', ageMs: null });
    expect(obligations.strangeChoice({ durability: 'batched', compression: 'lz4' })).toBeNull();
    expect(obligations.strangeChoice({ durability: 'strict', compression: 'lz4' })).toBe('in mode strict');
    expect(obligations.strangeChoice({ durability: 'batched', compression: 'none' })).toBe('with compression none');
    const [first] = [obligations.compressionAsked('none'), obligations.compressionAsked('default')];
    obligations.compressionAnswered(first);
    expect(obligations.strangeChoice({ durability: 'batched', compression: 'lz4' })).toBe('with compression lz4');
    expect(obligations.strangeChoice({ durability: 'batched', compression: 'default' })).toBeNull();
    expect(obligations.strangeChoice({ durability: 'batched', compression: 'none' })).toBe('with compression none');
  });
});

describe('a payload', () => {
  test.each(['stamped', 'noisy'] as const)('%s: says which request wrote it and where it belongs', (kind) => {
    const bytes = makePayload(kind, 77, 1000, 3000);
    expect(bytes.length).toBe(3000);
    expect(describePayload(bytes.subarray(500, 1012), 1500)).toBe('bytes of request 77');
    expect(describePayload(bytes.subarray(500, 1012), 1500 + 512)).toMatch(/bytes of request 77 that belong at byte \d+, not \d+/);
    expect(describePayload(new Uint8Array(512), 0)).toBe('zeroes');
    expect(describePayload(new Uint8Array(512).fill(3), 0)).toMatch(/unknown bytes/);
  });

  test('is the same however a range is cut out of it', () => {
    const whole = makePayload('stamped', 5, 0, 8192);
    expect(makePayload('stamped', 5, 1001, 333)).toHaveLength(333);
    expect(whole.subarray(4096)).toHaveLength(4096);
    expect(describePayload(makePayload('stamped', 5, 1001, 333), 1001)).toBe('bytes of request 5');
  });
});
