/** A running S3 server with a bucket, credentials for it, and stores on it: what the tests against real servers share. */
import type { S3Settings } from '../../src/base/settings-types.ts';
import type { RemoteStore } from '../../src/store/remote-store.ts';
import { openS3Store } from '../../src/store/s3-store.ts';
import { CredentialsFolder, nodeEnv, s3Settings } from '../support/s3-settings.ts';
import { S3Server, type ServerKind } from './s3-server.ts';

export const BUCKET = 'volumes';

export class S3Fixture {
  readonly server: S3Server;
  readonly credentials: CredentialsFolder;
  readonly credentialsFile: string;
  readonly env = nodeEnv();
  readonly #stores: RemoteStore[] = [];

  private constructor(server: S3Server, credentials: CredentialsFolder, credentialsFile: string) {
    this.server = server;
    this.credentials = credentials;
    this.credentialsFile = credentialsFile;
  }

  static async start(kind: ServerKind): Promise<S3Fixture> {
    const server = await S3Server.start(kind);
    await server.createBucket(BUCKET);
    const credentials = await CredentialsFolder.create();
    return new S3Fixture(server, credentials, await credentials.write('own', server.accessKeyId, server.secretAccessKey));
  }

  async open(settings: Partial<S3Settings> = {}): Promise<RemoteStore> {
    const store = await openS3Store(this.env, s3Settings({ endpoint: this.server.endpoint, bucket: BUCKET, credentialsFile: this.credentialsFile, ...settings }));
    this.#stores.push(store);
    return store;
  }

  async dispose(): Promise<void> {
    for (const store of this.#stores) store.close();
    await this.server.dispose();
    await this.credentials.dispose();
  }
}
