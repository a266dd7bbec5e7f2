/** Memory whose first byte stands at the beginning of a page, for writes past the page cache: a Buffer's does not. It is zero, and committed when it is first touched. */
export function pageAligned(lengthBytes: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(lengthBytes, { maxByteLength: lengthBytes }), 0, lengthBytes);
}
