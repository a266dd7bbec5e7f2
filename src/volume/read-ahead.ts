/**
 * Reading ahead in a volume whose chunks may be in its bucket alone: where clients read in sequence the map says which chunks come next, and they are fetched before they are asked for.
 * A chunk is fetched as a whole, and only where much of it lies on the way: of data that is scattered over many chunks nothing is fetched that is not read.
 */
import { type BlockMap, LEAF_BLOCKS, LOOKUP } from '../index/block-map.ts';

export interface ReadAheadOptions {
  readonly map: Pick<BlockMap, 'leaf' | 'load' | 'lookup' | 'foundChunk'>;
  readonly blockSizeBytes: number;
  /** How far ahead is looked at most. */
  readonly limitBytes: number;
  /** Blocks that a chunk was made of; undefined: there is no such chunk. */
  readonly blockCountOf: (chunk: number) => number | undefined;
  /** Starts to fetch a chunk, if it is not here. False: there is no memory for it now. */
  readonly fetchAhead: (chunk: number) => boolean;
  readonly nowMs: () => number;
}

/** Clients that read in sequence at a time, each somewhere else. */
const STREAMS_MAX = 8;
/** A read so near to where the last one ended goes on there: requests of a client overtake each other, and of those that memory answers nothing is heard. */
const GAP_BYTES_MAX = 1024 * 1024;
/** What was read in sequence before anything is fetched for it. */
const RUN_BYTES_MIN = 256 * 1024;
/** A run of this length is one of data that pass through: they are not worth a place in memory. */
const LONG_RUN_BYTES = 16 * 1024 * 1024;
/**
 * No more is fetched than is read in so long: what nobody reads for twice the time is not in memory any more (`store/ahead-objects.ts`), and where this disk does not keep it, it would be
 * fetched again. Of 60 chunks that were read within 8 s each, past a cache of nothing, three times their bytes came.
 */
const AHEAD_MS = 15_000;
/** A stream's speed is that of the last such time. One that rests for longer than the time above begins anew. */
const SAMPLE_MS = 5000;
/** A chunk comes whole if so much of a leaf is in it, or so much of it is in one leaf. */
const LEAF_PART = 1 / 4;
const CHUNK_PART = 1 / 2;

interface NextChunk {
  readonly chunk: number;
  /** Where in the volume it is read first. */
  readonly offsetBytes: number;
}

interface Stream {
  endBytes: number;
  runBytes: number;
  /** Up to this leaf all is fetched, or not worth it. */
  nextLeaf: number;
  /** Chunks of this leaf that are not asked for yet, as they follow in the volume; null: it was not looked at yet. */
  waiting: NextChunk[] | null;
  lastMs: number;
  /** When the sample of its speed began, and what was read since. */
  sampleMs: number;
  sampleBytes: number;
  bytesPerMs: number;
}

export class ReadAhead {
  readonly #options: ReadAheadOptions;
  /** Least recently read first. */
  readonly #streams: Stream[] = [];

  constructor(options: ReadAheadOptions) {
    this.#options = options;
  }

  /** A read is about to happen. Returns whether it is part of a long sequence. */
  next(offsetBytes: number, lengthBytes: number): boolean {
    const nowMs = this.#options.nowMs();
    const stream = this.#streamOf(offsetBytes, nowMs);
    const progressBytes = Math.max(0, offsetBytes + lengthBytes - stream.endBytes);
    const goesOn = stream.runBytes > 0 && progressBytes > 0;
    stream.endBytes += progressBytes;
    stream.runBytes += progressBytes;
    noteSpeed(stream, progressBytes, nowMs);
    if (goesOn && stream.runBytes >= RUN_BYTES_MIN) this.#look(stream);
    return stream.runBytes >= LONG_RUN_BYTES;
  }

  #streamOf(offsetBytes: number, nowMs: number): Stream {
    const at = this.#streams.findIndex(({ endBytes }) => Math.abs(offsetBytes - endBytes) <= GAP_BYTES_MAX);
    const [known] = at === -1 ? [] : this.#streams.splice(at, 1);
    if (known === undefined && this.#streams.length === STREAMS_MAX) this.#streams.shift();
    const stream = known ?? { endBytes: offsetBytes, runBytes: 0, nextLeaf: 0, waiting: null, lastMs: nowMs, sampleMs: nowMs, sampleBytes: 0, bytesPerMs: Number.POSITIVE_INFINITY };
    this.#streams.push(stream);
    return stream;
  }

  /** Starts to fetch what comes next: twice what was read, up to the limit. */
  #look(stream: Stream): void {
    const { map, blockSizeBytes, limitBytes, fetchAhead } = this.#options;
    const leafBytes = LEAF_BLOCKS * blockSizeBytes;
    const end = stream.endBytes + Math.min(limitBytes, 2 * stream.runBytes, stream.bytesPerMs * AHEAD_MS);
    const from = Math.floor(stream.endBytes / leafBytes);
    if (from > stream.nextLeaf) [stream.nextLeaf, stream.waiting] = [from, null];
    for (; stream.nextLeaf * leafBytes < end; stream.nextLeaf += 1) {
      const leaf = map.leaf(stream.nextLeaf);
      if (leaf === undefined) {
        stream.waiting = null;
        continue;
      }
      if (!leaf.resident) {
        // Nobody waits for it here: who reads it finds what is wrong with it. The next read looks again.
        map.load(stream.nextLeaf).catch(() => undefined);
        return;
      }
      stream.waiting ??= this.#chunksOf(stream.nextLeaf, Math.floor(stream.endBytes / blockSizeBytes));
      while (stream.waiting.length > 0) {
        const [{ chunk, offsetBytes }] = stream.waiting;
        if (offsetBytes >= end || !fetchAhead(chunk)) return;
        stream.waiting.shift();
      }
      stream.waiting = null;
    }
  }

  /** Of a leaf what is not behind the reader, and worth it. */
  #chunksOf(index: number, fromBlock: number): NextChunk[] {
    const { map, blockSizeBytes } = this.#options;
    const found = new Map<number, { count: number; readonly blockNumber: number }>();
    for (let blockNumber = Math.max(fromBlock, index * LEAF_BLOCKS); blockNumber < (index + 1) * LEAF_BLOCKS; blockNumber += 1) {
      if (map.lookup(blockNumber) !== LOOKUP.STORED) continue;
      const known = found.get(map.foundChunk);
      if (known === undefined) found.set(map.foundChunk, { count: 1, blockNumber });
      else known.count += 1;
    }
    return [...found].filter(([chunk, { count }]) => this.#isMuch(chunk, count)).map(([chunk, { blockNumber }]) => ({ chunk, offsetBytes: blockNumber * blockSizeBytes }));
  }

  #isMuch(chunk: number, count: number): boolean {
    const blockCount = this.#options.blockCountOf(chunk);
    return blockCount !== undefined && (count >= LEAF_BLOCKS * LEAF_PART || count >= blockCount * CHUNK_PART);
  }
}

function noteSpeed(stream: Stream, progressBytes: number, nowMs: number): void {
  const isRested = nowMs - stream.lastMs >= AHEAD_MS;
  const elapsedMs = nowMs - stream.sampleMs;
  stream.lastMs = nowMs;
  stream.sampleBytes += progressBytes;
  if (!isRested && elapsedMs < SAMPLE_MS) return;
  if (isRested) stream.runBytes = progressBytes;
  stream.bytesPerMs = isRested ? Number.POSITIVE_INFINITY : stream.sampleBytes / elapsedMs;
  stream.sampleMs = nowMs;
  stream.sampleBytes = 0;
}
