/** Whether an object of a bucket is the one that we have, where a put was told that its key is taken. */
const READS_MAX = 4;

function isEqual(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}

/**
 * A bit that flips on the way does not make another object of ours: what differs is read again until two reads are the same. Null: they never were. Errors:
 * those of `read`.
 */
export async function hasSameBytes(read: () => Promise<Uint8Array>, ours: Uint8Array): Promise<boolean | null> {
  let last: Uint8Array | null = null;
  for (let count = 0; count < READS_MAX; count += 1) {
    const found = await read();
    if (isEqual(found, ours)) return true;
    if (last !== null && isEqual(found, last)) return false;
    last = found;
  }
  return null;
}
