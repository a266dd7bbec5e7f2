/** What stands around a session: the resources that all sessions of a server share, and the owner of its socket. */
import type { VolumeError } from '../base/errors.ts';
import type { ServerSettings, TlsMode } from '../base/settings-types.ts';
import type { DeviceDirectory } from '../volume/block-device.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { PayloadBudget } from './payload-budget.ts';
import type { ReplyBudget } from './reply-budget.ts';
import type { ReplyBatch } from './reply-queue.ts';
import type { ThrottleTable } from './throttle.ts';
import type { TrafficTable } from './traffic.ts';

/** Shared by all sessions of one server. */
export interface SessionResources {
  readonly settings: ServerSettings;
  readonly directory: DeviceDirectory;
  readonly pool: BufferPool;
  readonly budget: PayloadBudget;
  readonly replyBudget: ReplyBudget;
  /** PIECE_BYTES long. Input lands behind its first SMALL_BUFFER_BYTES, and is consumed before the next socket is read. */
  readonly scratch: Uint8Array;
  readonly traffic: TrafficTable;
  readonly throttles: ThrottleTable;
}

/**
 * What an export is to one client.
 * - `hidden`: it is not told apart from one that does not exist.
 * - `tls-only`: the same until TLS has begun, but that TLS is the way on may be said.
 */
export type ExportTerms = 'hidden' | 'tls-only' | 'read-only' | 'writable';

/** Who a session talks to. It stays the same as long as the session. */
export interface SessionClient {
  readonly tls: TlsMode;
  /** With TLS: the client flags that were sent before it began, the only thing that outlives that moment. Null without. */
  readonly securedFlags: number | null;
  termsOf(exportName: string): ExportTerms;
}

/** One that may do everything, on a server without TLS. */
export const TRUSTED_CLIENT: SessionClient = { tls: 'off', securedFlags: null, termsOf: () => 'writable' };

/** What a session has to tell to whoever keeps the log. */
export type SessionEvent =
  | { readonly kind: 'negotiated'; readonly exportName: string; readonly sizeBytes: number; readonly readOnly: boolean }
  /** The server opens a volume, which may take time that is not the client's; then it has ended, either way. */
  | { readonly kind: 'opening' | 'opened'; readonly exportName: string }
  | { readonly kind: 'export-refused'; readonly exportName: string; readonly error: VolumeError }
  | { readonly kind: 'protocol-error'; readonly message: string }
  /** The client has left while requests of its waited to begin: they are dropped. */
  | { readonly kind: 'left-waiting' }
  | {
      readonly kind: 'request-failed';
      readonly command: number;
      readonly offsetBytes: number;
      readonly lengthBytes: number;
      readonly error: VolumeError;
    };

/**
 * The owner of a session's socket. It reads into `session.readTarget()` while `session.wantsInput`, and calls `received`, `inputEnded`,
 * `sent`, `deferred` and `disconnected`.
 */
export interface SessionHost {
  /** Whether a read that does not fill its target has emptied the socket. */
  readonly emptiesSocket: boolean;
  /** Sends the batch behind all earlier ones, then calls `session.sent(batch)`: also when the socket died instead, behind `disconnected`. */
  send(batch: ReplyBatch): void;
  /** Calls `session.deferred()` once, when the work that is running now (callback and microtasks) has ended. */
  defer(): void;
  /** `wantsInput` has become true again outside of `received`. */
  resumeReading(): void;
  /** Whether the client has closed its direction, though what it sent before that may be unread. False where nobody can tell. */
  hasLeft(): boolean;
  /** The session is over: whatever was sent still goes out, then the socket is closed. `broken`: do not wait for the client. */
  finish(broken: boolean): void;
  /**
   * The client has asked for TLS, and been told to begin. Nothing that arrives from now on is this session's; once TLS stands the
   * host makes a new one, whose client has these flags: so no state and no byte can be carried over.
   */
  startTls(clientFlags: number): void;
  /** The session has given back its volume and all memory; comes last, after `disconnected`, `finish` or `startTls`. */
  released(): void;
  report(event: SessionEvent): void;
}

/** Results of a parser other than "this many bytes are needed". */
export const BLOCKED = -1; // bytes are there, but something must end first
export const LEAVING = -2; // the client has said goodbye
export const BROKEN = -3; // the client broke the protocol; already reported
export const SECURING = -4; // TLS begins behind what was answered
