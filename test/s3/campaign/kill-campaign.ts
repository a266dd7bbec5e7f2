/**
 * Kills (SIGKILL) the server of a volume with a bucket, or the whole S3 server, at random moments under a load of stamped blocks, again and again, and looks each time:
 * - with its disk, the volume has every request that was answered, in order, after a restart;
 * - from its bucket alone it is what it was after some prefix of its requests, which has all that a drain had promised. For that the bucket is copied while nobody writes
 *   to it, and the copy is recovered on another host, so that the volume itself lives on; now and then it loses its disk, too, and goes on from there.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { join } from 'node:path';
import { deferred } from '../../../src/base/async.ts';
import { SMALL_SETTINGS } from '../../crash/campaign.ts';
import { within } from '../../crash/running-time.ts';
import { CredentialsFolder } from '../../support/s3-settings.ts';
import { S3Server } from '../s3-server.ts';
import { copyPrefix, removePrefix } from './bucket-copy.ts';
import { BucketHost } from './bucket-host.ts';
import type { BucketCampaignOptions } from './campaign-program.ts';
import { OrderedLoad } from './ordered-load.ts';

export type Victim = 'server' | 'S3 server';

export interface KillSummary {
  readonly victim: Victim;
  readonly requests: number;
  /** Requests that were answered, and how many of them the bucket had; that was promised by drains. */
  readonly acknowledged: number;
  readonly recovered: number;
  readonly drained: number;
  readonly objects: number;
  readonly isDiskLost: boolean;
}

const BUCKET = 'volumes';
const PREFIX = 'kills/volume';
const URL = `s3://${BUCKET}/${PREFIX}`;
const HANG_TIMEOUT_MS = 120_000;

/** Limits that make chunks, checkpoints, roots, evictions and fetches happen within a second; and a bucket that comes back is tried soon. */
export const SMALL_REMOTE_SETTINGS: readonly string[] = [
  ...SMALL_SETTINGS,
  'remote.cache_bytes=8M',
  'remote.retry_ms=100',
  'remote.lease_ms=1000',
  'remote.call_timeout_ms=600000',
];

export class KillCampaign {
  readonly #options: BucketCampaignOptions;
  readonly #load: OrderedLoad;
  readonly #s3: S3Server;
  readonly #credentials: CredentialsFolder;
  readonly #host: BucketHost;
  readonly #other: BucketHost;
  #runs = 0;

  private constructor(options: BucketCampaignOptions, s3: S3Server, credentials: CredentialsFolder, credentialsFile: string) {
    this.#options = options;
    this.#s3 = s3;
    this.#credentials = credentials;
    const { directory, entry, settings, sizeBytes, depth, random } = options;
    const shared = { entry, settings, endpoint: s3.endpoint, credentialsFile };
    this.#host = new BucketHost({ ...shared, directory: join(directory, 'host') });
    this.#other = new BucketHost({ ...shared, directory: join(directory, 'other') });
    this.#load = new OrderedLoad({ sizeBytes, depth, random });
  }

  /** Starts an S3 server, and makes a volume there. */
  static async start(options: BucketCampaignOptions): Promise<KillCampaign> {
    const s3 = await S3Server.start('ceph20');
    const credentials = await CredentialsFolder.create();
    const campaign = new KillCampaign(options, s3, credentials, await credentials.write('own', s3.accessKeyId, s3.secretAccessKey));
    try {
      await s3.createBucket(BUCKET);
      await campaign.#host.create(URL, options.sizeBytes);
    } catch (error) {
      await campaign.dispose();
      throw error;
    }
    return campaign;
  }

  /** One life of the server, which ends with its death. Rejects when something is lost, torn, or out of order, or a request fails. */
  async run(victim: Victim): Promise<KillSummary> {
    this.#runs += 1;
    try {
      await this.#host.serve();
      await this.#checkKept();
      const before = this.#load.counts.changes;
      if (victim === 'server') await this.#killServer();
      else await this.#killStore();
      const acknowledged = this.#load.acknowledged;
      const { recovered, objects } = await this.#recoverCopy();
      const isDiskLost = this.#options.random.chance(0.25);
      if (isDiskLost) await this.#loseDisk();
      return { victim, requests: this.#load.counts.changes - before, acknowledged, recovered, drained: this.#load.drained, objects, isDiskLost };
    } catch (error) {
      const said = [this.#host, this.#other].map((host) => host.output.slice(-4000)).join('\n--- the other host:\n');
      throw new Error(`run ${this.#runs} (${victim}): ${error instanceof Error ? error.message : String(error)}\nthe servers' last output:\n${said}`, { cause: error });
    }
  }

  /** Checks once more; then the volume is drained, and the bucket has all of it. */
  async finish(): Promise<void> {
    await this.#host.serve();
    await this.#checkKept();
    await this.#drain();
    if (this.#load.drained !== this.#load.acknowledged) throw new Error(`${this.#load.drained} of ${this.#load.acknowledged} requests are drained behind the last drain`);
    await this.#host.kill();
    await this.#recoverCopy();
  }

  async dispose(): Promise<void> {
    await this.#host.kill();
    await this.#other.kill();
    await this.#s3.dispose();
    await this.#credentials.dispose();
  }

  /** With its disk the volume has all that was answered. */
  async #checkKept(): Promise<void> {
    const client = await this.#host.connect();
    const { acknowledged: atLeast, history } = this.#load;
    const found = await this.#load.check(client, 'after a restart on its own disk', { atLeast, atMost: history.requests });
    this.#load.settle(found, this.#load.drained);
    await client.close();
  }

  async #drain(): Promise<void> {
    const prefix = this.#load.beginDrain();
    await this.#host.drain();
    this.#load.endDrain(prefix);
  }

  async #killServer(): Promise<void> {
    await this.#underLoad(async () => {
      await this.#drainPerhaps();
      await this.#wait();
      this.#host.assertAlive();
      await this.#host.kill();
    });
  }

  /** While it is gone, and when it comes back, no request fails; the server dies at some moment after. */
  async #killStore(): Promise<void> {
    await this.#underLoad(async () => {
      await this.#drainPerhaps();
      await this.#wait();
      await this.#s3.kill();
      await this.#wait();
      const isBack = this.#s3.run();
      isBack.catch(() => undefined); // it is waited for below
      await this.#wait();
      this.#host.assertAlive();
      if (this.#options.random.chance(0.5)) {
        await isBack;
        await this.#drain();
        await this.#wait();
      }
      await this.#host.kill();
      await isBack;
    });
  }

  async #drainPerhaps(): Promise<void> {
    if (!this.#options.random.chance(0.4)) return;
    await this.#wait();
    await this.#drain();
  }

  #wait(): Promise<void> {
    const { random, loadMsMax } = this.#options;
    return delay(random.next() ** 2 * loadMsMax);
  }

  /** Runs `task`, which ends with the death of the server, under load. */
  async #underLoad(task: () => Promise<void>): Promise<void> {
    const client = await this.#host.connect();
    const answered = deferred<void>();
    const load = this.#load.run(client, () => answered.resolve());
    const early = load.then((end): never => {
      throw new Error(end instanceof Error ? `a request failed: ${end.message}` : `the load ended early: ${end}`);
    });
    await within(HANG_TIMEOUT_MS, 'the first answer', Promise.race([early, answered.promise]));
    const running = task();
    // The end of the load is that of the server, or a failure.
    await Promise.race([running, early.catch((error: unknown) => (this.#host.isServing ? Promise.reject(error) : running))]);
    await load;
    await client.cut();
  }

  /** The volume, as its bucket alone has it, on another host. Returns after how many requests. */
  async #recoverCopy(): Promise<{ readonly recovered: number; readonly objects: number }> {
    const copy = `kills/copy-${this.#runs}`;
    const client = this.#s3.client();
    const objects = await copyPrefix(client, BUCKET, { source: PREFIX, target: copy });
    await this.#other.openRemote(`s3://${BUCKET}/${copy}`, '--force');
    await this.#other.serve();
    const volume = await this.#other.connect();
    const { prefix } = await this.#load.check(volume, 'recovered from the bucket alone', { atLeast: this.#load.drained, atMost: this.#load.history.requests });
    await volume.close();
    await this.#other.loseDisk();
    await removePrefix(client, BUCKET, copy);
    client.destroy();
    return { recovered: prefix, objects };
  }

  /** The volume goes on from what its bucket has. */
  async #loseDisk(): Promise<void> {
    await this.#host.loseDisk();
    await this.#host.openRemote(URL, '--force');
    await this.#host.serve();
    const client = await this.#host.connect();
    const found = await this.#load.check(client, 'after its disk was lost', { atLeast: this.#load.drained, atMost: this.#load.history.requests });
    this.#load.settle(found, found.prefix);
    await client.close();
    await this.#host.kill();
  }
}
