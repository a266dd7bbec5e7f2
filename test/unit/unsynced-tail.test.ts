import { expect, test } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { UnsyncedTail } from '../../src/wal/unsynced-tail.ts';

const RECORD_BYTES = 100 * KIB;

/** Records from LSN 1 on, each of which says what was durable. */
function tailOf(durableLsns: readonly number[], durableLsn = 0): UnsyncedTail {
  const tail = new UnsyncedTail(durableLsn);
  for (const [index, durable] of durableLsns.entries()) tail.note({ lsn: index + 1, durableLsn: durable, generation: 7 }, index * RECORD_BYTES, RECORD_BYTES);
  return tail;
}

test('without a record there is no unsynced one', () => {
  expect(tailOf([])).toMatchObject({ durableLsn: 0, place: null, bytes: 0 });
});

test('all records may be unsynced while none says otherwise', () => {
  expect(tailOf([0, 0, 0, 0, 0])).toMatchObject({ durableLsn: 0, place: { generation: 7, offsetBytes: 0, lsn: 1 }, bytes: 5 * RECORD_BYTES });
});

test('records that the cut calls durable are left out', () => {
  expect(tailOf([0, 0, 0], 2)).toMatchObject({ durableLsn: 2, place: { lsn: 3 }, bytes: RECORD_BYTES });
  expect(tailOf([0, 0, 0], 3)).toMatchObject({ durableLsn: 3, place: null, bytes: 0 });
});

test.each(Array.from({ length: 12 }, (_, index) => index))('when a record calls LSN %i durable, the tail begins at the next one or less than two records before it', (durable) => {
  const tail = tailOf([...Array<number>(12).fill(0), durable]);
  expect(tail.durableLsn).toBe(durable);
  const lsn = tail.place?.lsn ?? 0;
  expect(lsn).toBeGreaterThan(Math.max(0, durable - 1));
  expect(lsn).toBeLessThanOrEqual(durable + 1);
  expect(tail.place?.offsetBytes).toBe((lsn - 1) * RECORD_BYTES);
  expect(tail.bytes).toBe((14 - lsn) * RECORD_BYTES);
});

test('the record that calls all before it durable is the tail', () => {
  expect(tailOf([0, 0, 0, 3])).toMatchObject({ durableLsn: 3, place: { lsn: 4, offsetBytes: 3 * RECORD_BYTES }, bytes: RECORD_BYTES });
});

test('a later record that knows less changes nothing', () => {
  expect(tailOf([0, 0, 2, 1])).toMatchObject({ durableLsn: 2, place: { lsn: 3 }, bytes: 2 * RECORD_BYTES });
});
