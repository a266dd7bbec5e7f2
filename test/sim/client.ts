/** A simulated client: one request after another, each checked against the model. Several of them share a volume. */
import { deferred } from '../../src/base/async.ts';
import { VOLUME_COMPRESSIONS, type VolumeCompression } from '../../src/base/compression.ts';
import { DURABILITY_MODES, type Durability } from '../../src/base/durability.ts';
import type { VolumeError } from '../../src/base/errors.ts';
import type { Admission, Completion, ReadLoan } from '../../src/volume/block-device.ts';
import type { Life } from './life.ts';
import { SimulationFailure, describeRequest, type ChangeRequest } from './model.ts';
import { makePayload, type PayloadKind } from './payload.ts';
import type { Operation } from './plan.ts';
import type { SeededRandom } from './random.ts';

interface Range {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Bytes around a reader's target that the engine must not touch. */
const GUARD_BYTES = 16;
const GUARD = 0xa5;
const MAX_CACHE_BYTES = 4 * 1024 * 1024;

export class Client {
  readonly #life: Life;
  readonly #random: SeededRandom;

  constructor(life: Life, random: SeededRandom) {
    this.#life = life;
    this.#random = random;
  }

  async run(operationCount: number): Promise<void> {
    const { plan } = this.#life.world;
    for (let i = 0; i < operationCount; i += 1) {
      await this.#operate(this.#random.weighted(plan.weights));
      if (plan.thinkMs > 0 && this.#random.chance(0.7)) await this.#life.process.sleep(this.#random.unit() * plan.thinkMs);
    }
  }

  async #operate(operation: Operation): Promise<void> {
    const random = this.#random;
    switch (operation) {
      case 'write blocks':
        return this.#change('write', this.#blocks(), random.pick<PayloadKind>(['stamped', 'noisy']));
      case 'write bytes':
        return this.#change('write', this.#bytes(), random.pick<PayloadKind>(['stamped', 'noisy']));
      case 'write zeroes':
        return this.#change('write', random.chance(0.5) ? this.#blocks() : this.#bytes(), 'zero');
      case 'zero':
      case 'zero provisioned':
        return this.#change('zero', random.chance(0.5) ? this.#blocks() : this.#bytes(), 'zero', operation === 'zero provisioned');
      case 'trim':
        return this.#change('trim', random.chance(0.7) ? this.#blocks() : this.#bytes(), 'zero');
      case 'trim much':
        return this.#change('trim', this.#muchOfIt(), 'zero');
      case 'flush':
        return this.#flush();
      case 'read':
        return this.#read(this.#bytes());
      case 'read now':
        return random.chance(0.5) ? this.#readNow(this.#bytes()) : this.#readLent(this.#bytes());
      case 'cache':
        return this.#cache();
      case 'durability':
        return this.#changeMode(random.pick(DURABILITY_MODES));
      case 'compression':
        return this.#changeCompression(random.pick(VOLUME_COMPRESSIONS));
      case 'pause':
        return this.#life.process.sleep(random.unit() * this.#life.world.plan.pauseMs);
    }
  }

  async #change(kind: ChangeRequest['kind'], range: Range, payloadKind: PayloadKind, provisioned = false): Promise<void> {
    const { world, process } = this.#life;
    const id = world.ids.next;
    world.ids.next += 1;
    world.counts.requests += 1;
    const payload = kind === 'write' ? makePayload(payloadKind, id, range.offsetBytes, range.lengthBytes) : null;
    const request: ChangeRequest = { id, kind, ...range, fua: this.#random.chance(world.plan.fuaChance), payload, covered: [], durability: this.#life.volume.durability, askedAtLsn: world.model.lastLsn, lsn: 0 };
    process.trace.event(`${kind}${request.fua ? ' fua' : ''}`, `request ${id}`, range.offsetBytes, range.lengthBytes);
    this.#life.pending.add(request);
    const call = new ChangeCall(this.#life, request, provisioned);
    let refusal: unknown = null;
    try {
      await (this.#random.chance(world.plan.promisedChance) ? call.promised() : call.inTurn());
    } catch (error) {
      if (error instanceof SimulationFailure) throw error;
      refusal = error;
    }
    if (refusal === null) return;
    this.#life.refused(request, refusal);
    await process.sleep(this.#random.unit() * 20);
  }

  async #flush(): Promise<void> {
    const { world, process, volume } = this.#life;
    const scope = world.obligations.flushScope();
    process.trace.event('flush', 'scope', scope);
    const done = deferred<void>();
    let { durability } = volume;
    const settle = (error: VolumeError | null): void => {
      if (error !== null) {
        done.reject(error);
        return;
      }
      this.#life.check(() => this.#life.flushed(scope, durability));
      process.trace.event('flush answered', 'scope', scope);
      done.resolve();
    };
    try {
      if (this.#random.chance(world.plan.promisedChance)) {
        await volume.flush();
        settle(null);
      } else {
        this.#life.inTurn(() => {
          try {
            ({ durability } = volume);
            volume.flushNow({ settle });
          } catch (error) {
            done.reject(error);
          }
        });
      }
      await done.promise;
    } catch (error) {
      this.#life.expectRefusal(error, 'a flush');
    }
  }

  async #changeMode(durability: Durability): Promise<void> {
    const { world, process, volume } = this.#life;
    const scope = world.obligations.flushScope();
    const change = world.obligations.changeAsked(durability);
    process.trace.event(`asks for mode ${durability}`, 'scope', scope);
    try {
      await volume.setDurability(durability);
      if (!process.alive) return;
      this.#life.check(() => this.#life.modeChanged(change, scope));
      process.trace.event('mode changed', durability, scope);
    } catch (error) {
      this.#life.expectRefusal(error, `a change to mode ${durability}`);
    }
  }

  async #changeCompression(compression: VolumeCompression): Promise<void> {
    const { world, process, volume } = this.#life;
    const change = world.obligations.compressionAsked(compression);
    process.trace.event(`asks for compression ${compression}`, world.directory, change);
    try {
      await volume.setCompression(compression);
      if (!process.alive) return;
      this.#life.check(() => this.#life.compressionChanged(change));
      process.trace.event('compression changed', compression, change);
    } catch (error) {
      this.#life.expectRefusal(error, `a change to compression ${compression}`);
    }
  }

  /** A read that may wait: each block in one of the states that it had meanwhile. */
  async #read(range: Range): Promise<void> {
    const { world, process, volume } = this.#life;
    world.counts.reads += 1;
    const lsn = world.model.lastLsn;
    process.trace.event('read', `from LSN ${lsn}`, range.offsetBytes, range.lengthBytes);
    const found = new Uint8Array(range.lengthBytes).fill(GUARD);
    const startMs = process.scheduler.nowMs;
    try {
      await volume.read(range.offsetBytes, found);
    } catch (error) {
      this.#life.expectUnreadable(error, 'a read', startMs);
      return;
    }
    world.model.checkRead(found, range.offsetBytes, lsn, `a read that began at LSN ${lsn}`);
  }

  /** A read within the turn: exactly what the newest records say, or not at all. */
  async #readNow(range: Range): Promise<void> {
    const { world, volume } = this.#life;
    const done = deferred<boolean>();
    this.#life.inTurn(() => {
      try {
        const target = new Uint8Array(range.lengthBytes + 2 * GUARD_BYTES).fill(GUARD);
        const isDone = volume.readNow(range.offsetBytes, range.lengthBytes, target, GUARD_BYTES);
        const end = GUARD_BYTES + range.lengthBytes;
        const isGuardWhole = target.subarray(0, GUARD_BYTES).every((byte) => byte === GUARD) && target.subarray(end).every((byte) => byte === GUARD);
        if (!isGuardWhole) throw new SimulationFailure(`readNow wrote outside of its range`);
        const { lastLsn } = world.model;
        if (isDone) world.model.checkRead(target.subarray(GUARD_BYTES, end), range.offsetBytes, lastLsn, `a read in the turn at LSN ${lastLsn}`);
        done.resolve(isDone);
      } catch (error) {
        done.reject(error);
      }
    });
    if (await done.promise) world.counts.reads += 1;
    else await this.#read(range);
  }

  /** A read without a copy, kept for a while: what is on loan stays as it was, whatever becomes of its slab. */
  async #readLent(range: Range): Promise<void> {
    const { world, volume, process } = this.#life;
    const taken = deferred<ReadLoan | null>();
    let atFirst = new Uint8Array(0);
    this.#life.inTurn(() => {
      try {
        const loan = volume.lend(range.offsetBytes, range.lengthBytes);
        if (loan !== null) {
          atFirst = bytesOf(loan);
          const { lastLsn } = world.model;
          world.model.checkRead(atFirst, range.offsetBytes, lastLsn, `a loan taken at LSN ${lastLsn}`);
        }
        taken.resolve(loan);
      } catch (error) {
        taken.reject(error);
      }
    });
    const loan = await taken.promise;
    if (loan === null) return this.#readNow(range);
    world.counts.reads += 1;
    await process.sleep(this.#random.unit() * world.plan.pauseMs);
    if (Buffer.compare(bytesOf(loan), atFirst) !== 0) throw new SimulationFailure(`bytes on loan changed: ${range.lengthBytes} at ${range.offsetBytes}`);
    loan.release();
  }

  async #cache(): Promise<void> {
    const { offsetBytes, lengthBytes } = this.#muchOfIt();
    const startMs = this.#life.process.scheduler.nowMs;
    try {
      await this.#life.volume.cache(offsetBytes, Math.min(lengthBytes, MAX_CACHE_BYTES));
    } catch (error) {
      this.#life.expectUnreadable(error, 'bringing blocks into the cache', startMs);
    }
  }

  #blocks(): Range {
    const { model, plan } = this.#life.world;
    const blockNumber = this.#someBlock();
    const blockCount = this.#random.skewed(1, Math.min(plan.maxRequestBlocks, model.blockCount - blockNumber));
    return { offsetBytes: blockNumber * model.blockSizeBytes, lengthBytes: blockCount * model.blockSizeBytes };
  }

  /** Of any alignment; sectors, small pieces within a block and ranges over several blocks. */
  #bytes(): Range {
    const { model, plan } = this.#life.world;
    const unit = this.#random.pick([1, 512, 512]);
    const start = this.#someBlock() * model.blockSizeBytes + unit * this.#random.below(model.blockSizeBytes / unit);
    const most = Math.min(plan.maxRequestBlocks * model.blockSizeBytes, model.blockCount * model.blockSizeBytes - start);
    const length = this.#random.skewed(1, Math.max(1, Math.floor(most / unit))) * unit;
    return { offsetBytes: start, lengthBytes: Math.min(length, most) };
  }

  #muchOfIt(): Range {
    const { model } = this.#life.world;
    const first = this.#random.chance(0.3) ? 0 : this.#random.below(model.blockCount);
    const count = this.#random.between(1, model.blockCount - first);
    return { offsetBytes: first * model.blockSizeBytes, lengthBytes: count * model.blockSizeBytes };
  }

  #someBlock(): number {
    const { model, plan, volume } = this.#life.world;
    if (this.#random.chance(plan.hotChance)) return this.#random.below(Math.min(plan.hotBlocks, model.blockCount));
    const region = this.#random.pick(volume.regions);
    return region.firstBlock + this.#random.below(region.blockCount);
  }
}

/** One change on its way into the engine, in the forms that the NBD session and the library use. */
class ChangeCall {
  readonly #life: Life;
  readonly #request: ChangeRequest;
  readonly #provisioned: boolean;
  readonly #done = deferred<void>();
  /** What the engine is given, apart from the model's own copy. */
  readonly #source: Uint8Array;
  #settled = false;

  constructor(life: Life, request: ChangeRequest, provisioned: boolean) {
    this.#life = life;
    this.#request = request;
    this.#provisioned = provisioned;
    this.#source = request.payload === null ? new Uint8Array(0) : new Uint8Array(request.payload);
  }

  /** The promised form. */
  async promised(): Promise<void> {
    const { volume } = this.#life;
    const { kind, offsetBytes, lengthBytes, fua } = this.#request;
    const start = (): Promise<void> => {
      if (kind === 'write') return volume.write(offsetBytes, this.#source, fua);
      if (kind === 'zero') return volume.zero(offsetBytes, lengthBytes, { provisioned: this.#provisioned, fua });
      return volume.trim(offsetBytes, lengthBytes, fua);
    };
    await this.#life.within(this.#request, start);
    this.#life.answered(this.#request);
    this.#source.fill(GUARD); // it was borrowed until here: whoever still looks at it sees rubbish
  }

  /** The form of the data path, and the promised one where that does not do. */
  inTurn(): Promise<void> {
    this.#life.inTurn(() => this.#try());
    return this.#done.promise;
  }

  #try(): void {
    if (!this.#life.process.alive) return;
    let admission: Admission;
    try {
      admission = this.#life.within(this.#request, () => this.#callNow());
      if (admission === 'accepted') this.#source.fill(GUARD); // nothing of it is needed any more
      else if (this.#request.covered.length > 0 || this.#settled) throw new SimulationFailure(`${describeRequest(this.#request)} is ${admission}, yet something was done`);
    } catch (error) {
      this.#done.reject(error);
      return;
    }
    if (admission !== 'accepted') void this.#goOn(admission);
  }

  async #goOn(admission: 'partial' | 'full'): Promise<void> {
    try {
      if (admission === 'partial') {
        await this.promised();
        this.#done.resolve();
      } else {
        await this.#life.volume.whenAdmitting();
        this.#life.inTurn(() => this.#try());
      }
    } catch (error) {
      this.#done.reject(error);
    }
  }

  #callNow(): Admission {
    const { volume } = this.#life;
    const { kind, offsetBytes, lengthBytes, fua } = this.#request;
    const completion: Completion = { settle: (error) => this.#settle(error) };
    if (kind === 'write') return volume.writeNow(offsetBytes, lengthBytes, this.#source, 0, fua, completion);
    if (kind === 'zero') return volume.zeroNow(offsetBytes, lengthBytes, { provisioned: this.#provisioned, fua }, completion);
    return volume.trimNow(offsetBytes, lengthBytes, fua, completion);
  }

  #settle(error: VolumeError | null): void {
    this.#life.check(() => {
      if (this.#settled) throw new SimulationFailure(`${describeRequest(this.#request)} is settled twice`);
      this.#settled = true;
      if (error === null) this.#life.answered(this.#request);
    });
    if (error === null) this.#done.resolve();
    else this.#done.reject(error);
  }
}

function bytesOf(loan: ReadLoan): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.concat(loan.parts));
}
