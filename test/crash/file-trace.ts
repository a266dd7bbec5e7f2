/** The calls of a traced server that matter after a crash: changes of files below one directory, syncs, and replies to clients. */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { type SystemCall, StraceParser, descriptorPath, quotedBytes } from './strace-parser.ts';

interface Timed {
  /** Places in the order of all calls. `ended` is Infinity when the process died in the middle of it, until `settleLife` has looked what became of it. */
  readonly began: number;
  readonly ended: number;
  /** Only of a call in which the process died: what its life left of it, which ended with that life; null is nothing. */
  readonly settled?: FileChange | null;
}

export type FileChange =
  | (Timed & { readonly kind: 'create'; readonly path: string })
  | (Timed & { readonly kind: 'make-directory'; readonly path: string })
  | (Timed & { readonly kind: 'write'; readonly path: string; readonly offsetBytes: number; readonly bytes: Buffer; readonly synced: boolean })
  | (Timed & { readonly kind: 'sync'; readonly path: string })
  | (Timed & { readonly kind: 'rename'; readonly path: string; readonly target: string })
  | (Timed & { readonly kind: 'remove'; readonly path: string });

/** A reply on its way to the client, by the number in its cookie. */
export interface TracedReply {
  readonly request: number;
  readonly at: number;
}

export interface TracedLife {
  readonly changes: readonly FileChange[];
  readonly replies: readonly TracedReply[];
  readonly end: { readonly how: string; readonly at: number };
}

/** What strace must record. Calls that the model does not know are listed too: they are an error, not a blind spot. */
export const TRACED_CALLS =
  'openat,open,creat,openat2,pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,fsync,fdatasync,sync_file_range,syncfs,rename,renameat,renameat2,' +
  'unlink,unlinkat,rmdir,ftruncate,truncate,fallocate,mkdir,mkdirat,link,linkat,symlink,symlinkat,copy_file_range,sendfile,splice,io_uring_setup';

const SIMPLE_REPLY_MAGIC = 0x67446698;
const REPLY_BYTES = 16;

/** Reads one process's trace, which leaves open what became of the calls in which it died. `root`: changes elsewhere are left out; paths come back relative to it, beginning with `/`. */
export async function readTrace(file: string, root: string, firstLine: number): Promise<TracedLife> {
  const reader = new TraceReader(root);
  const parser = new StraceParser((call) => reader.take(call), firstLine);
  for await (const line of createInterface({ input: createReadStream(file, 'latin1'), crlfDelay: Infinity })) parser.line(line);
  parser.finish();
  if (parser.end === null) throw new Error(`${file}: the trace has no end`);
  return { changes: reader.changes.toSorted((left, right) => left.began - right.began), replies: reader.replies, end: parser.end };
}

class TraceReader {
  readonly changes: FileChange[] = [];
  readonly replies: TracedReply[] = [];
  readonly #root: string;
  /** Descriptors opened with O_DSYNC or O_SYNC: their writes are durable on return. */
  readonly #syncedDescriptors = new Set<number>();

  constructor(root: string) {
    this.#root = root;
  }

  take(call: SystemCall): void {
    if (call.result !== null && call.result < 0) return; // it failed, and changed nothing
    const { began, ended } = call;
    switch (call.name) {
      case 'openat':
        this.#takeOpen(call);
        break;
      case 'write':
      case 'writev':
      case 'sendto':
      case 'sendmsg':
        this.#takeStream(call);
        break;
      case 'pwrite64':
      case 'pwritev':
      case 'pwritev2':
        this.#takeWrite(call);
        break;
      case 'fsync':
      case 'fdatasync': {
        const path = this.#inside(descriptorPath(call.args));
        if (path !== null) this.changes.push({ kind: 'sync', path, began, ended });
        break;
      }
      case 'mkdir': {
        const path = this.#inside(textAt(call, 0));
        if (path !== null) this.changes.push({ kind: 'make-directory', path, began, ended });
        break;
      }
      case 'rename': {
        const path = this.#inside(textAt(call, 0));
        const target = this.#inside(textAt(call, 1));
        if ((path === null) !== (target === null)) throw new Error(`a rename in or out of ${this.#root}`);
        if (path !== null && target !== null) this.changes.push({ kind: 'rename', path, target, began, ended });
        break;
      }
      case 'unlink': {
        const path = this.#inside(textAt(call, 0));
        if (path !== null) this.changes.push({ kind: 'remove', path, began, ended });
        break;
      }
      default:
        this.#refuseInside(call);
    }
  }

  #takeOpen(call: SystemCall): void {
    const path = this.#inside(textAt(call, 0));
    if (path === null) return;
    const flags = call.args.slice(call.args.lastIndexOf('"') + 1);
    const { began, ended, result } = call;
    if (flags.includes('O_TRUNC')) throw new Error(`${path} is truncated by open: the model does not know that`);
    if (flags.includes('O_CREAT')) this.changes.push({ kind: 'create', path, began, ended });
    if (result === null) return;
    if (/\bO_D?SYNC\b/.test(flags)) this.#syncedDescriptors.add(result);
    else this.#syncedDescriptors.delete(result);
  }

  #takeWrite(call: SystemCall): void {
    const path = this.#inside(descriptorPath(call.args));
    if (path === null) return;
    const whole = Buffer.concat(quotedBytes(call.args));
    if (call.result !== null && call.result > whole.length) throw new Error(`${call.name} wrote ${call.result} bytes, the trace has ${whole.length}`);
    const bytes = call.result === null ? whole : whole.subarray(0, call.result);
    const offsetBytes = offsetOf(call);
    const synced = this.#syncedDescriptors.has(Number.parseInt(call.args, 10));
    this.changes.push({ kind: 'write', path, offsetBytes, bytes, synced, began: call.began, ended: call.ended });
  }

  /**
   * Writes without an offset: replies to the client, or nothing of interest. The server is killed only when the client has all its
   * replies, so one in whose call it died (no result) has arrived.
   */
  #takeStream(call: SystemCall): void {
    const path = descriptorPath(call.args);
    if (this.#inside(path) !== null) this.#refuseInside(call);
    if (path === null || !path.startsWith('socket:')) return;
    const bytes = Buffer.concat(quotedBytes(call.args)).subarray(0, call.result ?? undefined);
    if (bytes.length < REPLY_BYTES || bytes.readUInt32BE(0) !== SIMPLE_REPLY_MAGIC) return; // the handshake
    for (let start = 0; start + REPLY_BYTES <= bytes.length; start += REPLY_BYTES) {
      if (bytes.readUInt32BE(start) !== SIMPLE_REPLY_MAGIC || bytes.readUInt32BE(start + 4) !== 0) throw new Error('a reply that is not a success without data');
      this.replies.push({ request: Number(bytes.readBigUInt64BE(start + 8)), at: call.began });
    }
  }

  /** A call that the model does not know may not touch the volumes. */
  #refuseInside(call: SystemCall): void {
    const paths = [descriptorPath(call.args), ...quotedBytes(call.args).map(String)];
    if (call.name.startsWith('io_uring') || paths.some((path) => this.#inside(path) !== null)) {
      throw new Error(`the server calls ${call.name}, which the model of crash states does not know`);
    }
  }

  #inside(path: string | null): string | null {
    if (path === null) return null;
    if (path === this.#root) return '/';
    const inside = path.startsWith(`${this.#root}/`) ? path.slice(this.#root.length) : null;
    return inside === null || isServersOwn(inside.slice(1)) ? null : inside;
  }
}

/** The files in the directory of the volumes by which a server is found and excludes others: nothing of a volume is in them. */
export function isServersOwn(name: string): boolean {
  return name.startsWith('.control') || name === 'control.sock';
}

function textAt(call: SystemCall, index: number): string | null {
  return quotedBytes(call.args).at(index)?.toString() ?? null;
}

/** The offset: the last argument of pwrite64 and pwritev, the last but one of pwritev2. */
function offsetOf({ name, args }: SystemCall): number {
  const words = args.slice(args.lastIndexOf('"') + 1).split(',').map((word) => word.trim());
  const offset = Number(words.at(name === 'pwritev2' ? -2 : -1));
  if (!Number.isSafeInteger(offset)) throw new Error(`no offset in ${name}(...${words.join(', ')}`);
  return offset;
}
