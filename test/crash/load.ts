/** A mixed load on one connection, recorded in the volume's image as it goes. */
import { type NbdClient, NbdRequestError } from '../support/nbd-client.ts';
import { isDisconnection } from './disconnection.ts';
import type { SeededRandom } from './random.ts';
import { SECTOR_BYTES, fillStamp } from './stamp.ts';
import type { Mutation, VolumeImage } from './volume-image.ts';

export interface LoadOptions {
  readonly client: NbdClient;
  readonly connection: number;
  readonly image: VolumeImage;
  readonly random: SeededRandom;
  /** Requests in flight at a time. */
  readonly depth: number;
  /** A number that no request of this test had before. */
  readonly nextRequest: () => number;
  /** What the server may answer while it is being stopped. */
  readonly mayFail: (error: NbdRequestError) => boolean;
  /** Called at each acknowledged change. */
  readonly acknowledged: () => void;
}

export interface LoadCounts {
  acknowledged: number;
  acknowledgedBytes: number;
  reads: number;
  flushes: number;
  unanswered: number;
  refused: number;
}

export function noCounts(): LoadCounts {
  return { acknowledged: 0, acknowledgedBytes: 0, reads: 0, flushes: 0, unanswered: 0, refused: 0 };
}

const KIB = 1024;

/** Runs until the connection is lost. Rejects when a reply is wrong: an error, or stale bytes. */
export async function runLoad(options: LoadOptions): Promise<LoadCounts> {
  const counts = noCounts();
  let lost = false;
  let streamOffset = options.random.below(options.image.sizeBytes);
  const lane = async (): Promise<void> => {
    while (!lost) {
      const choice = options.random.next();
      try {
        if (choice < 0.1) await readBack(options, counts);
        else if (choice < 0.14) await flush(options, counts);
        else if (choice < 0.24) streamOffset = await stream(options, counts, streamOffset);
        else await mutate(options, counts, chooseMutation(options));
      } catch (error) {
        if (isDisconnection(error)) {
          counts.unanswered += 1;
          lost = true;
        } else if (error instanceof NbdRequestError && options.mayFail(error)) {
          counts.refused += 1;
          lost = true;
        } else {
          throw error;
        }
      }
    }
  };
  await Promise.all(Array.from({ length: options.depth }, lane));
  return counts;
}

/** A sequential write of 128 KiB: slabs fill up, chunks and checkpoints are made while others write. */
async function stream(options: LoadOptions, counts: LoadCounts, offsetBytes: number): Promise<number> {
  const lengthBytes = 128 * KIB;
  const aligned = Math.floor(offsetBytes / lengthBytes) * lengthBytes;
  const inside = aligned + lengthBytes <= options.image.sizeBytes ? aligned : 0;
  await mutate(options, counts, { ...identity(options), kind: 'stamp', offsetBytes: inside, lengthBytes });
  return inside + lengthBytes;
}

async function readBack({ client, image, random }: LoadOptions, counts: LoadCounts): Promise<void> {
  const range = chooseRange(image.sizeBytes, random);
  if (!image.beginRead(range)) return;
  const bytes = await client.read(range.offsetBytes, range.lengthBytes);
  const problems = image.verify(range.offsetBytes, bytes);
  image.endRead(range);
  if (problems.length > 0) throw new Error(`a read returned what was not written: ${problems.map(({ text }) => text).join('\n')}`);
  counts.reads += 1;
}

async function flush({ client }: LoadOptions, counts: LoadCounts): Promise<void> {
  await client.flush();
  counts.flushes += 1;
}

async function mutate(options: LoadOptions, counts: LoadCounts, mutation: Mutation): Promise<void> {
  if (!options.image.begin(mutation)) {
    await new Promise((resolve) => setImmediate(resolve)); // another lane has this place: let its reply come in
    return;
  }
  await send(options, mutation);
  options.image.acknowledge(mutation);
  options.acknowledged();
  counts.acknowledged += 1;
  counts.acknowledgedBytes += mutation.lengthBytes;
}

function send({ client, random }: LoadOptions, mutation: Mutation): Promise<void> {
  const { offsetBytes, lengthBytes } = mutation;
  const fua = random.chance(0.1);
  if (mutation.kind === 'trim') return client.trim(offsetBytes, lengthBytes, fua);
  if (mutation.kind === 'zero' && random.chance(0.6)) return client.zero(offsetBytes, lengthBytes, { fua, provisioned: random.chance(0.5) });
  const data = new Uint8Array(lengthBytes); // a zero by an ordinary write: the engine detects zero blocks
  if (mutation.kind === 'stamp') fillStamp(data, offsetBytes, mutation);
  return client.write(offsetBytes, data, fua);
}

function chooseMutation(options: LoadOptions): Mutation {
  const { image, random } = options;
  const choice = random.next();
  const kind = choice < 0.8 ? 'stamp' : choice < 0.91 ? 'zero' : 'trim';
  return { ...identity(options), kind, ...chooseRange(image.sizeBytes, random) };
}

function identity(options: LoadOptions): { request: number; connection: number } {
  return { request: options.nextRequest(), connection: options.connection };
}

/**
 * Half of all requests fall into the first 256 KiB, where the connections meet in the same blocks: partial writes there
 * must not lose a neighbour's bytes.
 */
function chooseRange(sizeBytes: number, random: SeededRandom): { offsetBytes: number; lengthBytes: number } {
  const areaBytes = random.chance(0.5) ? 256 * KIB : sizeBytes;
  const [unit, lengthMax] = random.pick([
    [4 * KIB, 128 * KIB],
    [4 * KIB, 16 * KIB],
    [4 * KIB, 4 * KIB],
    [SECTOR_BYTES, 16 * KIB],
    [SECTOR_BYTES, 4 * KIB],
    [1, 6 * KIB],
  ]);
  const lengthBytes = (1 + random.below(lengthMax / unit)) * unit;
  const offsetBytes = random.below(Math.floor((areaBytes - lengthBytes) / unit) + 1) * unit;
  return { offsetBytes, lengthBytes };
}
