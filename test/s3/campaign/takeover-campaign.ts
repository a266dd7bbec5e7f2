/**
 * Two hosts, a data directory and a server each, take one volume from each other at random moments under a load of stamped blocks. Each time:
 * - the new owner has the volume after a prefix of the last owner's requests, with all that a drain had promised, and with nothing that was sent after the takeover was done;
 * - whatever the last owner still answers, it fails its writes soon, says why, and nothing of it is ever seen again: the new owner's requests follow that prefix in the history
 *   that the next takeover is held against.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { deferred } from '../../../src/base/async.ts';
import { VolumeError } from '../../../src/base/errors.ts';
import { within } from '../../crash/running-time.ts';
import { type NbdClient, NbdRequestError } from '../../support/nbd-client.ts';
import { CredentialsFolder } from '../../support/s3-settings.ts';
import { S3Server } from '../s3-server.ts';
import { BucketHost, CommandError } from './bucket-host.ts';
import type { BucketCampaignOptions } from './campaign-program.ts';
import { SMALL_REMOTE_SETTINGS } from './kill-campaign.ts';
import { BLOCK_BYTES, type LoadEnd, OrderedLoad } from './ordered-load.ts';

/** What the last owner was doing: working, dead, or stopped in order with all of it shipped. */
export type Manner = 'at work' | 'killed' | 'stopped';

export interface TakeoverSummary {
  readonly manner: Manner;
  /** Host that has the volume now. */
  readonly owner: number;
  /** The last owner's requests that were answered before the takeover was done, and how many of them are in the volume. */
  readonly answered: number;
  readonly taken: number;
  readonly drained: number;
  /** Requests that the last owner answered though it had lost the volume. */
  readonly inVain: number;
  readonly refusedFirst: boolean;
}

interface Working {
  readonly client: NbdClient;
  readonly end: Promise<LoadEnd>;
}

/** Nobody is taken for dead while this runs. */
export const TAKEOVER_SETTINGS: readonly string[] = [...SMALL_REMOTE_SETTINGS.filter((setting) => !setting.startsWith('remote.lease_ms')), 'remote.lease_ms=600000'];

const BUCKET = 'volumes';
const URL = `s3://${BUCKET}/takeovers/volume`;
const HANG_TIMEOUT_MS = 120_000;
const EIO = 5;

export class TakeoverCampaign {
  readonly #options: BucketCampaignOptions;
  readonly #s3: S3Server;
  readonly #credentials: CredentialsFolder;
  readonly #hosts: readonly [BucketHost, BucketHost];
  readonly #load: OrderedLoad;
  readonly #isKnown = [true, false];
  #owner = 0;
  #takeovers = 0;
  #working: Working | null = null;

  private constructor(options: BucketCampaignOptions, s3: S3Server, credentials: CredentialsFolder, credentialsFile: string) {
    this.#options = options;
    this.#s3 = s3;
    this.#credentials = credentials;
    const { directory, entry, settings, sizeBytes, depth, random } = options;
    const host = (name: string): BucketHost => new BucketHost({ entry, settings, endpoint: s3.endpoint, credentialsFile, directory: join(directory, name) });
    this.#hosts = [host('one'), host('two')];
    this.#load = new OrderedLoad({ sizeBytes, depth, random });
  }

  /** Starts an S3 server, makes a volume there, and serves it on the first host, under load. */
  static async start(options: BucketCampaignOptions): Promise<TakeoverCampaign> {
    const s3 = await S3Server.start('ceph20');
    const credentials = await CredentialsFolder.create();
    const campaign = new TakeoverCampaign(options, s3, credentials, await credentials.write('own', s3.accessKeyId, s3.secretAccessKey));
    try {
      await s3.createBucket(BUCKET);
      const [first] = campaign.#hosts;
      await first.create(URL, options.sizeBytes);
      await first.serve();
      await campaign.#work(await first.connect());
      await campaign.#drain(first);
    } catch (error) {
      await campaign.dispose();
      throw error;
    }
    return campaign;
  }

  /** The other host takes the volume. Rejects when a promise is broken. */
  async takeOver(): Promise<TakeoverSummary> {
    this.#takeovers += 1;
    try {
      return await this.#takeOver();
    } catch (error) {
      const said = this.#hosts.map((host) => host.output.slice(-4000)).join('\n--- the other host:\n');
      throw new Error(`takeover ${this.#takeovers}: ${error instanceof Error ? error.message : String(error)}\nthe servers' last output:\n${said}`, { cause: error });
    }
  }

  /** The owner stops in order; the other host finds all that was answered. */
  async finish(): Promise<void> {
    const { answered, taken } = await this.#takeOver('stopped');
    if (answered !== taken) throw new Error(`${answered} requests were answered before an orderly stop, and ${taken} are in the volume`);
  }

  async dispose(): Promise<void> {
    for (const host of this.#hosts) await host.kill();
    await this.#s3.dispose();
    await this.#credentials.dispose();
  }

  async #takeOver(wanted?: Manner): Promise<TakeoverSummary> {
    const { random } = this.#options;
    const last = this.#hosts[this.#owner];
    const owner = 1 - this.#owner;
    const next = this.#hosts[owner];
    const choice = random.next();
    const manner = wanted ?? (choice < 0.7 ? 'at work' : choice < 0.85 ? 'killed' : 'stopped');
    if (random.chance(0.4)) await this.#drain(last);
    await this.#wait();
    const refusedFirst = manner === 'at work' && random.chance(0.2) && (await this.#isRefused(next, owner));
    // One that is under way when the volume is taken either fails, or what it promises is there.
    const drain = manner === 'at work' && random.chance(0.4) ? this.#drainOrFenced(last) : Promise.resolve();
    if (manner !== 'at work') await this.#end(last, manner);
    await this.#take(next, owner, manner === 'stopped' ? [] : ['--force']);
    const { requests: atMost } = this.#load.history;
    const answered = this.#load.acknowledged;
    await drain;
    await next.serve();
    const client = await next.connect();
    const found = await this.#load.check(client, `taken over from a host that was ${manner}`, { atLeast: this.#load.drained, atMost });
    if (manner === 'at work') await this.#isFencedOff(last);
    const inVain = this.#load.acknowledged - answered;
    const { drained } = this.#load;
    this.#load.settle(found, found.prefix);
    this.#owner = owner;
    await this.#work(client);
    return { manner, owner, answered, taken: found.prefix, drained, inVain, refusedFirst };
  }

  async #take(host: BucketHost, index: number, flags: readonly string[]): Promise<void> {
    if (this.#isKnown[index]) await host.takeOver(...flags);
    else await host.openRemote(URL, ...flags);
    this.#isKnown[index] = true;
  }

  /** Without --force nobody takes a volume from a host that is at work. */
  async #isRefused(host: BucketHost, index: number): Promise<boolean> {
    try {
      await this.#take(host, index, []);
    } catch (error) {
      if (error instanceof CommandError && error.code === 'in-use' && error.message.includes('--force')) return true;
      throw error;
    }
    throw new Error('a volume was taken without --force from a host that was at work');
  }

  async #end(host: BucketHost, manner: Manner): Promise<void> {
    if (manner === 'killed') await host.kill();
    else {
      this.#load.stop();
      await this.#working?.end;
      await this.#working?.client.close();
      await this.#drain(host);
      const how = await host.stop();
      if (how !== 0) throw new Error(`the server ended with ${how} after SIGTERM, expected 0`);
    }
    const end = await this.#working?.end;
    if (manner === 'killed' && end !== 'disconnected') throw new Error(`the load of a killed server ended with ${String(end)}`);
    await this.#working?.client.cut();
  }

  /** The host that lost the volume fails its writes, says why, and ends with 1. */
  async #isFencedOff(host: BucketHost): Promise<void> {
    if (this.#working === null) throw new Error('no load was running');
    const { client, end } = this.#working;
    const how = await within(HANG_TIMEOUT_MS, 'the failure of a write on the host that lost the volume', end);
    if (!(how instanceof NbdRequestError) || how.errno !== EIO) throw new Error(`the load of a host that lost the volume ended with ${String(how)}, expected error ${EIO}`);
    const again = await client.write(0, new Uint8Array(BLOCK_BYTES)).then(() => null, (error: unknown) => error);
    if (!(again instanceof NbdRequestError) || again.errno !== EIO) throw new Error(`a write behind the first one that failed ended with ${String(again)}`);
    const { live } = await host.show();
    if (!/has taken this volume over \(epoch \d+\).*basalt takeover/u.test(live?.failure ?? '')) throw new Error(`basalt show does not say why writes fail: ${live?.failure}`);
    await client.cut();
    const exit = await host.stop();
    if (exit !== 1) throw new Error(`a server that had lost a volume ended with ${exit} after SIGTERM, expected 1`);
  }

  async #drain(host: BucketHost): Promise<void> {
    const prefix = this.#load.beginDrain();
    await host.drain();
    this.#load.endDrain(prefix);
  }

  async #drainOrFenced(host: BucketHost): Promise<void> {
    try {
      await this.#drain(host);
    } catch (error) {
      if (!(error instanceof VolumeError) || error.code !== 'fenced') throw error;
    }
  }

  #wait(): Promise<void> {
    const { random, loadMsMax } = this.#options;
    return delay(random.next() ** 2 * loadMsMax);
  }

  /** Starts the load; resolves at the first answer. */
  async #work(client: NbdClient): Promise<void> {
    const answered = deferred<void>();
    const end = this.#load.run(client, () => answered.resolve());
    this.#working = { client, end };
    const early = end.then((how): never => {
      throw new Error(`the load ended before its first answer: ${String(how)}`);
    });
    await within(HANG_TIMEOUT_MS, 'the first answer', Promise.race([early, answered.promise]));
    early.catch(() => undefined); // who takes the volume looks at how it ended
  }
}
