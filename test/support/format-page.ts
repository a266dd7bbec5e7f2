/** The page `src/format/README.md`, put together from the comments above the codecs, so that there is one text for both. */
import { readFileSync } from 'node:fs';

const SECTIONS = [
  ['manifest.ts', 'Manifest'],
  ['log-record.ts', 'Log'],
  ['synced-mark.ts', 'Mark'],
  ['chunk-layout.ts', 'Chunk'],
  ['checkpoint-layout.ts', 'Checkpoint'],
  ['remote-records.ts', 'Records in a bucket'],
] as const;

const INTRODUCTION = `# Formats, version 1 (the manifest, the log and chunks: 1 and 2)

What basalt writes to a disk or a store. All fields are little-endian; a u64 holds a value below 2^53, and a reader refuses a
larger one; reserved bytes are zero; the checksum is CRC-32 (IEEE 802.3, as zlib computes it). Nothing is ever renumbered: a
change is a new version with golden bytes (\`test/golden\`) and a decoder for both.

A volume is a directory:

| path | what |
|---|---|
| \`manifest\` | the root, replaced as a whole (\`.manifest-new\` while that happens) |
| \`manifest-copy\` | the manifest once more, for \`repair\` alone; written behind it, in place and without a sync, so it may be missing, invalid or older |
| \`lock\` | empty; whoever has the volume open holds flock(2) on it |
| \`log/NN.log\` | the ring of log files, NN from 00 |
| \`log/synced\` | the mark: up to which LSN the volume is known to be on the disk |
| \`chunks/cNNNNNNNNNN-eEEEEEE\` | chunk N written in epoch E (decimal, at least so many digits) |
| \`checkpoints/kNNNNNNNNNN-eEEEEEE\` | checkpoint N written in epoch E |
| \`chunks/.stage-*\`, \`checkpoints/.stage-*\` | an object on its way; removed at the next opening |
| \`properties.json\` | labels (\`.properties-new\` while they are replaced; see \`volume/volume-properties.ts\`); the engine does not look at it, and it may be missing |
| \`remote\` | of a volume that has a bucket: where that is, and who we are (JSON, see \`volume/remote-config.ts\`); no credentials |
| \`following\` | in the place of a manifest and a log: the volume is another host's, read from its bucket; where that is, and the state that was served last (JSON, see \`volume/following.ts\`; \`.following-new\` while it is replaced) |
| \`prefetch\` | empty: what is likely to be needed of the bucket is to be fetched; removed when that is done |
| \`chunks/.far-*\`, \`checkpoints/.far-*\` | what was fetched of an object that is in the bucket alone; removed at the next opening |
| \`repairing\` | a repair is under way (JSON: epoch of its first object, folder, files to keep); nobody opens the volume meanwhile |
| \`kept-aside/N/\` | what repair N found no place for, the manifest as it was, and \`report.json\`; never read again |
| \`chunks/.spare-*\` | the file of a removed chunk, to be written again; removed at the next opening |

Beside the volumes there may be \`.creating-*\` and \`.deleting-*\`: a volume that is being made or deleted; and
\`control.sock\`, \`.control.lock\` and \`.control-*\`: the socket of the process that serves the directory, the lock that this process holds, and a
socket that is being made.

What must hold between the files:

- The manifest names the newest checkpoint; 0 is the empty volume before LSN 1.
- The chunks behind the checkpoint's last one form a chain of whole sets: each names the last chunk of the set before it, and
  begins with the LSN after that set's last.
- The log holds records behind the last chunk's LSN: in each life an unbroken run; a later life goes on where an earlier one ended, or
  was cut off. Records of epochs before the manifest's cut count only up to the cut's LSN.
- The LSN of the mark is no larger than the volume's last one.
- The volume is: the checkpoint, then the chunks, then the records, in LSN order.

This page is made of the comments above the codecs; \`test/golden/format-page.test.ts\` holds the two together.
`;

/** The text of the first comment of a source file. */
function pageOf(file: string): string {
  const source = readFileSync(new URL(`../../src/format/${file}`, import.meta.url), 'utf8');
  const end = source.indexOf('\n */');
  const lines = source.slice(0, end).split('\n').slice(1);
  return lines.map((line) => line.replace(/^ \* ?/, '')).join('\n');
}

export function formatPage(): string {
  const sections = SECTIONS.map(([file, title]) => `## ${title} (\`${file}\`)\n\n${pageOf(file)}\n`);
  return `${INTRODUCTION}\n${sections.join('\n')}`;
}
