/**
 * Reads what `strace -f -y -xx` wrote: calls with their arguments as text, in the order in which they began and ended.
 * A call of one thread that another one interrupts stands in two lines (`<unfinished ...>`, `<... NAME resumed>`).
 */

/** One system call. `began` and `ended` are places in the order of all lines; a call in which the process died has no end. */
export interface SystemCall {
  readonly name: string;
  /** Everything between the parentheses; what was printed until the process died, if it did. */
  readonly args: string;
  /** Null: it never returned. Negative: it failed. */
  readonly result: number | null;
  readonly began: number;
  readonly ended: number;
}

/** How the traced process ended, from its last line: an exit status, or the name of a signal. */
export interface ProcessEnd {
  readonly how: string;
  readonly at: number;
}

interface Unfinished {
  readonly name: string;
  readonly text: string;
  readonly began: number;
}

const UNFINISHED = ' <unfinished ...>';

/** Feed it line by line; it hands over each call when it has ended, and the rest at the end. */
export class StraceParser {
  readonly #onCall: (call: SystemCall) => void;
  readonly #unfinished = new Map<number, Unfinished>();
  #at: number;
  #mainThread: number | null = null;
  #end: ProcessEnd | null = null;

  /** Counts lines from `firstLine`, so that several traces make one order. */
  constructor(onCall: (call: SystemCall) => void, firstLine = 0) {
    this.#onCall = onCall;
    this.#at = firstLine;
  }

  /** Lines so far. */
  get at(): number {
    return this.#at;
  }

  /** Null while the process's last line has not come. */
  get end(): ProcessEnd | null {
    return this.#end;
  }

  line(line: string): void {
    this.#at += 1;
    const space = line.indexOf(' ');
    const thread = Number(line.slice(0, space));
    if (!Number.isSafeInteger(thread) || space < 1) throw new Error(`a line without a thread: ${line.slice(0, 200)}`);
    this.#mainThread ??= thread;
    const text = line.slice(space).trimStart();
    if (text.startsWith('+++ ')) this.#threadEnded(thread, text);
    else if (text.startsWith('--- ')) return; // a signal arrived
    else if (text.startsWith('<... ')) this.#resumed(thread, text);
    else this.#called(thread, text);
  }

  /** The process is gone: calls that it was in the middle of are handed over without a result. */
  finish(): void {
    for (const { name, text, began } of this.#unfinished.values()) this.#onCall({ name, args: text, result: null, began, ended: Infinity });
    this.#unfinished.clear();
  }

  #threadEnded(thread: number, text: string): void {
    if (thread === this.#mainThread) this.#end = { how: text.replaceAll('+++', '').trim(), at: this.#at };
  }

  #called(thread: number, text: string): void {
    const open = text.indexOf('(');
    if (open < 1) throw new Error(`not a call: ${text.slice(0, 200)}`);
    const name = text.slice(0, open);
    if (text.endsWith(UNFINISHED)) {
      this.#unfinished.set(thread, { name, text: text.slice(open + 1, -UNFINISHED.length), began: this.#at });
      return;
    }
    this.#returned(name, text.slice(open + 1), this.#at);
  }

  #resumed(thread: number, text: string): void {
    const first = this.#unfinished.get(thread);
    const tail = text.slice(text.indexOf('>') + 1);
    if (first === undefined) throw new Error(`thread ${thread} resumes a call that it did not begin: ${text.slice(0, 200)}`);
    this.#unfinished.delete(thread);
    this.#returned(first.name, first.text + tail, first.began);
  }

  /** `rest`: arguments, `)`, spaces, `= RESULT...`. Strings are hexadecimal: a `)` in them cannot mislead. */
  #returned(name: string, rest: string, began: number): void {
    const close = rest.lastIndexOf(')', rest.lastIndexOf(' = '));
    const result = /^\)\s+= (-?\d+|\?)/.exec(rest.slice(close));
    if (close < 0 || result === null) throw new Error(`a call without a result: ${name}(${rest.slice(-200)}`);
    const value = result[1] === '?' ? null : Number(result[1]); // `?`: the process died in it
    this.#onCall({ name, args: rest.slice(0, close), result: value, began, ended: value === null ? Infinity : this.#at });
  }
}

/** The bytes of all quoted strings of a call, in order. Throws if one was cut short. */
export function quotedBytes(args: string): Buffer[] {
  const strings: Buffer[] = [];
  for (let open = args.indexOf('"'); open >= 0; ) {
    const close = args.indexOf('"', open + 1);
    if (close < 0) throw new Error(`a string without an end: ${args.slice(open, open + 100)}`);
    if (args.startsWith('...', close + 1)) throw new Error('strace has cut a string short: a larger -s is needed');
    strings.push(hexBytes(args.slice(open + 1, close)));
    open = args.indexOf('"', close + 1);
  }
  return strings;
}

/** The path behind the descriptor that a call begins with; null if it has none (`AT_FDCWD` included). */
export function descriptorPath(args: string): string | null {
  const match = /^\d+</.exec(args);
  if (match === null) return null;
  return hexBytes(args.slice(match[0].length, args.indexOf('>'))).toString();
}

function hexBytes(text: string): Buffer {
  if (text.length % 4 !== 0 || (text.length > 0 && !text.startsWith('\\x'))) return Buffer.from(text); // `pipe:[123]` and the like
  return Buffer.from(text.replaceAll('\\x', ''), 'hex');
}
