/** Copies what stands below one prefix of a bucket to another one, so that a copy of a volume can be recovered without fencing the volume off. */
import { CopyObjectCommand, DeleteObjectsCommand, ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3';

const COPIES_AT_ONCE = 8;

export async function keysBelow(client: S3Client, bucket: string, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  let token: string | undefined;
  do {
    const page = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: `${prefix}/`, ContinuationToken: token }));
    for (const { Key } of page.Contents ?? []) if (Key !== undefined) keys.push(Key);
    token = page.NextContinuationToken;
  } while (token !== undefined);
  return keys;
}

/** Nobody may write below `source` meanwhile. Returns how many objects there are. */
export async function copyPrefix(client: S3Client, bucket: string, { source, target }: { readonly source: string; readonly target: string }): Promise<number> {
  const keys = await keysBelow(client, bucket, source);
  const left = keys.values();
  const lane = async (): Promise<void> => {
    for (const key of left) await client.send(new CopyObjectCommand({ Bucket: bucket, CopySource: `${bucket}/${key}`, Key: `${target}${key.slice(source.length)}` }));
  };
  await Promise.all(Array.from({ length: COPIES_AT_ONCE }, lane));
  return keys.length;
}

/** Most that one request removes. */
const REMOVES = 1000;

export async function removePrefix(client: S3Client, bucket: string, prefix: string): Promise<void> {
  const keys = await keysBelow(client, bucket, prefix);
  for (let from = 0; from < keys.length; from += REMOVES) {
    await client.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Quiet: true, Objects: keys.slice(from, from + REMOVES).map((Key) => ({ Key })) } }));
  }
}
