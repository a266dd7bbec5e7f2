/** Runs one input of the fuzzer through a real session, and judges it. */
import { NO_LIMITS, type VolumeLimits } from '../../src/base/volume-limits.ts';
import { BufferPool, PIECE_BYTES } from '../../src/session/buffer-pool.ts';
import type { SessionEvent, SessionHost, SessionResources } from '../../src/session/host.ts';
import { PayloadBudget } from '../../src/session/payload-budget.ts';
import { ReplyBudget } from '../../src/session/reply-budget.ts';
import type { ReplyBatch } from '../../src/session/reply-queue.ts';
import { Session } from '../../src/session/session.ts';
import { ThrottleTable } from '../../src/session/throttle.ts';
import { TrafficTable } from '../../src/session/traffic.ts';
import { ManualClock } from '../support/fake-world.ts';
import { ExpectedSession } from './expected-session.ts';
import { Finding, FuzzDevice, FuzzDirectory, POISON } from './fuzz-device.ts';
import { readInput, type Script, type ScriptEvent, VOLUME_NAMES } from './input-format.ts';
import { ReplyChecker } from './reply-checker.ts';

/** Turns of the microtask queue without any news after which nothing is under way: the longest chain of promises takes 14 to open a volume, else 8. */
const OPENING_TICKS = 24;
const QUIET_TICKS = 12;
/** More turns than any input takes that comes to an end. */
const TICKS_MAX = 1_000_000;
/** More than one session can hold: a window, a payload, replies and a read. */
const LEASED_BYTES_MAX = 16 << 20;
/** Bytes of a buffer that are poisoned again when it comes back: all of them would cost more than the session. */
const POISONED_AGAIN_BYTES = 2048;

/** What a limited volume lets pass, and the time after which it lets nobody wait any more for what is small; longer than what is carried out of a client that has left. */
const LIMITS: VolumeLimits = { ...NO_LIMITS, operationsPerSecond: 40, burstOperations: 2 };
const PASSING_MS = 30;

const TICK = Promise.resolve();

class PoisonedPool extends BufferPool {
  override take(bytes: number): Uint8Array {
    const idleBytes = this.idleBytes;
    const buffer = super.take(bytes);
    return this.idleBytes === idleBytes ? buffer.fill(POISON) : buffer;
  }

  override give(buffer: Uint8Array): void {
    buffer.fill(POISON, 0, POISONED_AGAIN_BYTES);
    super.give(buffer);
  }
}

/** What all inputs share; each leaves it as it was. */
class Surroundings {
  readonly devices = VOLUME_NAMES.map((name) => new FuzzDevice(name, name === 'fixed'));
  readonly directory = new FuzzDirectory(this.devices);
  readonly pool = new PoisonedPool(32 << 20);
  readonly scratch = new Uint8Array(PIECE_BYTES).fill(POISON);
}

let surroundings = new Surroundings();

/** A failed input may have left anything behind. */
export function renewSurroundings(): void {
  surroundings = new Surroundings();
}

/** The end of one session, for whoever wants to compare. */
export interface Outcome {
  readonly optionCount: number;
  readonly requestCount: number;
  readonly end: string;
}

class InputRun implements SessionHost {
  readonly #script: Script;
  readonly #expected: ExpectedSession;
  readonly #checker: ReplyChecker;
  readonly #resources: SessionResources;
  readonly #session: Session;
  readonly #clock = new ManualClock();
  /** What waited was dropped, as its client had left. */
  #isLeftWaiting = false;
  readonly #unsent: { readonly batch: ReplyBatch; readonly fedAt: number }[] = [];
  #fedAt = 0;
  #feedEnd = 0;
  #deferDue = false;
  #stopped = false;
  #target: Uint8Array;
  #holdsReplies = false;
  #inputEnded = false;
  #isFinDue = false;
  #disconnected = false;
  #finished: 'no' | 'in order' | 'broken' | 'tls' = 'no';
  #released = false;
  #random: number;
  readonly emptiesSocket = true;

  constructor(input: Uint8Array, onMessage: (message: Uint8Array) => void) {
    this.#script = readInput(input);
    const { client, settings, switches, splitSeed, mayFail } = this.#script;
    this.#expected = new ExpectedSession(this.#script);
    this.#checker = new ReplyChecker(this.#expected, { isGreeted: client.securedFlags !== null, mayFail, onMessage });
    this.#random = splitSeed * 0x9e3779b1 + 1;
    const { directory, pool, scratch, devices } = surroundings;
    directory.fails = false;
    directory.limits = NO_LIMITS;
    for (const device of devices) {
      device.reset();
      device.switches = { ...switches };
    }
    this.#resources = { settings, directory, pool, budget: new PayloadBudget(settings.payloadBytes), replyBudget: new ReplyBudget(settings.replyBytes), scratch, traffic: new TrafficTable(() => this.#clock.nowMs()), throttles: new ThrottleTable(this.#clock) };
    this.#session = new Session(this.#resources, this, client);
    this.#target = this.#session.readTarget();
    if (client.securedFlags === null) this.#session.start();
  }

  // What the session calls

  send(batch: ReplyBatch): void {
    if (this.#finished !== 'no') throw new Finding('replies behind the end of the session');
    this.#unsent.push({ batch, fedAt: this.#fedAt });
  }

  defer(): void {
    if (this.#deferDue) throw new Finding('deferred twice');
    this.#deferDue = true;
  }

  resumeReading(): void {
    this.#stopped = false;
  }

  hasLeft(): boolean {
    return this.#isFinDue;
  }

  finish(broken: boolean): void {
    if (this.#finished !== 'no') throw new Finding('finished twice');
    this.#finished = broken ? 'broken' : 'in order';
  }

  startTls(): void {
    if (this.#finished !== 'no') throw new Finding('TLS after the end');
    this.#finished = 'tls';
  }

  released(): void {
    if (this.#released) throw new Finding('released twice');
    this.#released = true;
  }

  report({ kind }: SessionEvent): void {
    if (kind !== 'left-waiting') return;
    if (!this.#inputEnded || this.#clock.nowMs() === 0) throw new Finding('requests are dropped of a client that is there, or has just left');
    this.#isLeftWaiting = true;
  }

  // What happens around it

  async run(): Promise<Outcome> {
    for (const event of this.#script.events) {
      if (this.#inputEnded || this.#disconnected) break;
      this.#feedTo(event.at);
      await this.#happen(event);
    }
    if (!this.#inputEnded && !this.#disconnected) this.#feedTo(this.#script.stream.length);
    await this.#calm();
    if (!this.#disconnected) {
      this.#judge();
      this.#disconnect();
    }
    await this.#calm();
    this.#judgeRemains();
    return { optionCount: this.#checker.answeredOptions, requestCount: this.#checker.answeredRequests, end: this.#finished };
  }

  async #happen({ kind }: ScriptEvent): Promise<void> {
    const { devices, directory } = surroundings;
    if (kind === 'shutdown' || kind === 'leave-if-idle' || kind === 'fail-directory') await this.#calm();
    if (kind === 'settle') await this.#drain();
    else if (kind === 'hold-replies') this.#holdsReplies = true;
    else if (kind === 'take-replies') this.#holdsReplies = false;
    else if (kind === 'fail-directory') directory.fails = true;
    else if (kind === 'limit') this.#limit(LIMITS);
    else if (kind === 'pass-time') this.#clock.advance(PASSING_MS);
    else if (kind === 'end-input') this.#isFinDue = this.#inputEnded = true;
    else if (kind === 'disconnect') this.#disconnect();
    else if (kind === 'shutdown' || kind === 'leave-if-idle') {
      this.#session.shutdown();
      if (kind === 'leave-if-idle') this.#session.leaveIfIdle();
    } else for (const device of devices) changeDevice(device, kind);
  }

  #limit(limits: VolumeLimits): void {
    surroundings.directory.limits = limits;
    for (const name of VOLUME_NAMES) this.#resources.throttles.changed(name, limits);
  }

  /** Lets everything end that can; for one half of all inputs after some time. */
  async #calm(): Promise<void> {
    this.#holdsReplies = false;
    if (this.#script.splitSeed % 2 === 1) {
      this.#clock.advance(PASSING_MS);
      await this.#drain();
    }
    this.#limit(NO_LIMITS);
    for (;;) {
      let again = false;
      for (const device of surroundings.devices) {
        again ||= !device.isIdle;
        device.makeRoom();
        device.warm();
        device.settleAll();
        device.switches.readsWait = false;
        if (device.switches.settles === 'by hand') device.switches.settles = 'at submit';
      }
      await this.#drain();
      if (!again) return;
    }
  }

  /** Runs until nothing is under way but what the volume holds back. */
  async #drain(): Promise<void> {
    let ticks = 0;
    for (let quiet = 0; quiet < (this.#session.looksForVolume ? OPENING_TICKS : QUIET_TICKS); quiet += 1) {
      await TICK;
      if (this.#step()) quiet = 0;
      ticks += 1;
      if (ticks > TICKS_MAX) throw new Finding('the session comes to no end');
    }
  }

  #step(): boolean {
    const next = this.#holdsReplies ? undefined : this.#unsent.shift();
    if (next !== undefined) {
      this.#take(next.batch, next.fedAt);
      return true;
    }
    if (this.#deferDue) {
      this.#deferDue = false;
      this.#session.deferred();
      return true;
    }
    return this.#deliver();
  }

  #take(batch: ReplyBatch, fedAt: number): void {
    if (!this.#disconnected) {
      const bytes = batch.parts.length === 1 ? batch.parts[0] : Buffer.concat(batch.parts);
      if (bytes.length !== batch.byteCount) throw new Finding(`a batch of ${batch.byteCount} bytes holds ${bytes.length}`);
      this.#checker.take(bytes, fedAt);
    }
    this.#session.sent(batch);
  }

  #feedTo(at: number): void {
    this.#feedEnd = at;
    this.#deliver();
  }

  /** Gives the session what it wants of what is there; true if that was anything. */
  #deliver(): boolean {
    const before = this.#fedAt;
    const { stream } = this.#script;
    while (this.#fedAt < this.#feedEnd && !this.#stopped && this.#finished !== 'tls' && !this.#disconnected) {
      const byteCount = Math.min(this.#target.length, this.#feedEnd - this.#fedAt, this.#pieceBytes());
      this.#target.set(stream.subarray(this.#fedAt, this.#fedAt + byteCount));
      this.#fedAt += byteCount;
      this.#session.received(byteCount);
      this.#stopped = !this.#session.wantsInput;
      this.#target = this.#session.readTarget();
      if (surroundings.pool.leasedBytes > LEASED_BYTES_MAX) throw new Finding(`${surroundings.pool.leasedBytes} bytes of buffers are held`);
    }
    if (this.#isFinDue && this.#fedAt === this.#feedEnd && !this.#stopped && !this.#disconnected) {
      this.#isFinDue = false;
      this.#session.inputEnded();
      return true;
    }
    return this.#fedAt > before;
  }

  #pieceBytes(): number {
    const { splitSeed } = this.#script;
    if (splitSeed < 2) return splitSeed === 0 ? Number.POSITIVE_INFINITY : this.#fedAt < 20_000 ? 1 : 4096;
    let random = this.#random;
    random ^= random << 13;
    random ^= random >>> 17;
    random ^= random << 5;
    this.#random = random;
    return (random & 3) === 0 ? 1 + ((random >>> 8) & 0xffff) : 1 + ((random >>> 8) & 0x3f);
  }

  #disconnect(): void {
    this.#disconnected = true;
    this.#session.disconnected();
    for (const { batch } of this.#unsent.splice(0)) this.#session.sent(batch);
  }

  /** While the client is still there: everything is answered, and the session is where it must be. */
  #judge(): void {
    const { options, requests, end, partial, shutdownAt } = this.#expected;
    const isShutDown = shutdownAt <= this.#fedAt;
    const finished = this.#finished;
    const mayMiss = end === 'broken' || (isShutDown && finished !== 'no');
    if (this.#checker.answeredOptions < options.length && !(end === 'securing' && finished === 'broken')) throw new Finding(`${options.length - this.#checker.answeredOptions} options are not answered`);
    // A client of simple replies sends again what was not begun when the server stopped; others are told.
    const isLeft = isShutDown && this.#expected.terms?.style === 'simple';
    const missing = requests.findIndex((request, index) => !this.#checker.isAnswered(index) && !this.#isLeftWaiting && !(mayMiss && (end === 'broken' || isLeft || request.endAt > shutdownAt)));
    if (missing >= 0) throw new Finding(`request ${missing} (command ${requests[missing].command}) is not answered`);
    if (isShutDown && finished !== 'no' && this.#expected.terms !== null) return;
    const { awaitsRest } = this.#session;
    // What would have broken it may be among what was dropped.
    const wanted = this.#isLeftWaiting || (this.#inputEnded && end === 'open') ? 'in order' : ({ open: 'no', leaving: 'in order', broken: 'broken', securing: 'tls' } as const)[end];
    const isLate = end === 'securing' && finished === 'broken' && this.#expected.hasMore;
    if (finished !== wanted && !isLate) throw new Finding(`the session is over: ${finished}; expected: ${wanted}`);
    if (wanted === 'no' && awaitsRest !== partial) throw new Finding(`the session ${awaitsRest ? 'awaits more of' : 'does not see'} a message`);
    const { budget, replyBudget } = this.#resources;
    const heldBytes = surroundings.pool.leasedBytes + budget.usedBytes + replyBudget.usedBytes;
    if (wanted === 'no' && !partial && heldBytes > 0) throw new Finding(`${heldBytes} bytes are held for a client that asks for nothing`);
    if (wanted === 'no' && this.#stopped) throw new Finding('the session has stopped reading for good');
  }

  /** When the client is gone: nothing is held. */
  #judgeRemains(): void {
    const { pool, directory, devices } = surroundings;
    const { budget, replyBudget } = this.#resources;
    const held = { buffers: pool.leasedBytes, payloads: budget.usedBytes + budget.pieceBytes, replies: replyBudget.usedBytes, volumes: directory.holderCount, waiting: Number(budget.contended) + Number(replyBudget.contended) };
    for (const [what, count] of Object.entries(held)) if (count !== 0) throw new Finding(`${count} of ${what} are held when the client is gone`);
    if (!this.#released) throw new Finding('the session is not released');
    if (this.#deferDue) throw new Finding('a turn is due that never comes');
    if (this.#clock.pendingTimers > 0) throw new Finding('a timer of the limits is left');
    for (const { complaint, isIdle } of devices) if (complaint !== null || !isIdle) throw new Finding(complaint ?? 'the volume is not idle');
  }
}

function changeDevice(device: FuzzDevice, kind: ScriptEvent['kind']): void {
  if (kind === 'cold') device.switches.cold = !device.switches.cold;
  else if (kind === 'cut-blocks') device.switches.partial = !device.switches.partial;
  else if (kind === 'warm') device.warm();
  else if (kind === 'full') device.full = true;
  else if (kind === 'make-room') device.makeRoom();
  else if (kind === 'fail-admission') device.makeRoom(true);
  else if (kind === 'settle-all') device.settleAll();
  else if (kind === 'fail') device.switches.fails = true;
  else if (kind === 'stop-failing') device.switches.fails = false;
}

const ignore = (): void => undefined;

/** Runs one input. Rejects with what is wrong: a `Finding`, or what the session threw. `onMessage` is lent what the client gets. One run at a time. */
export async function runInput(input: Uint8Array, onMessage: (message: Uint8Array) => void = ignore): Promise<Outcome> {
  return new InputRun(input, onMessage).run();
}
