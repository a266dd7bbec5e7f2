/** make-bucket ENDPOINT BUCKET: waits for an S3 server, and makes a bucket. Credentials are the environment's. */
import { CreateBucketCommand, ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';

const [endpoint = '', bucket = ''] = process.argv.slice(2);
const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, maxAttempts: 1 });
const endMs = Date.now() + 120_000;
for (;;) {
  try {
    await client.send(new ListBucketsCommand({}));
    break;
  } catch (error) {
    if (Date.now() > endMs) throw error;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
await client.send(new CreateBucketCommand({ Bucket: bucket }));
