/** The bare SDK: puts and gets of 4 MiB objects, as many at a time as a volume ships. What a volume is measured against. */
import { randomFillSync } from 'node:crypto';
import { GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3';
import { MIB } from '../../src/base/units.ts';
import { BUCKET } from './context.ts';

const OBJECT_BYTES = 4 * MIB;

async function lanes(byteCount: number, concurrency: number, run: (index: number) => Promise<void>): Promise<number> {
  const startMs = performance.now();
  const indices = Array.from({ length: Math.ceil(byteCount / OBJECT_BYTES) }, (_, index) => index).values();
  const lane = async (): Promise<void> => {
    for (const index of indices) await run(index);
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  return (performance.now() - startMs) / 1000;
}

/** Seconds that it takes. */
export function putObjects(client: S3Client, prefix: string, byteCount: number, concurrency: number): Promise<number> {
  const body = randomFillSync(Buffer.alloc(OBJECT_BYTES));
  return lanes(byteCount, concurrency, async (index) => {
    await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `${prefix}/${index}`, Body: body }));
  });
}

/** Seconds that it takes to have each object whole in memory. */
export function getObjects(client: S3Client, prefix: string, byteCount: number, concurrency: number): Promise<number> {
  return lanes(byteCount, concurrency, async (index) => {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: `${prefix}/${index}` }));
    const bytes = await Body?.transformToByteArray();
    if (bytes?.length !== OBJECT_BYTES) throw new Error(`object ${index} has ${bytes?.length} bytes, expected ${OBJECT_BYTES}`);
  });
}
