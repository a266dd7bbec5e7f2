/** make-image PATH MIB: a sparse image of twice so many MiB: half of the data at its beginning, the rest in pieces of 64 KiB all over it. */
import { randomFillSync } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';

const path = process.argv[2] ?? '';
const mib = Number(process.argv[3]);
const file = openSync(path, 'w');
const sizeBytes = 2 * mib * 2 ** 20;
ftruncateSync(file, sizeBytes);
const half = Buffer.alloc(2 ** 20);
for (let at = 0; at < (mib / 2) * 2 ** 20; at += half.length) writeSync(file, randomFillSync(half), 0, half.length, at);
const piece = Buffer.alloc(64 * 1024);
const step = Math.floor((sizeBytes * 3) / 4 / ((mib / 2) * 16));
for (let index = 0; index < (mib / 2) * 16; index += 1) writeSync(file, randomFillSync(piece), 0, piece.length, sizeBytes / 4 + index * step - ((index * step) % 512));
closeSync(file);
