/** WebAssembly that was assembled by hand and is kept as text. */
import { assert } from './assert.ts';

/** What is used of it; its types come with those of browsers only. */
declare const WebAssembly: {
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: object };
};

export interface Assembled {
  /** All of its memory, which does not grow. */
  readonly memory: Uint8Array;
  /** Its one function, of numbers. */
  readonly run: (...numbers: number[]) => unknown;
}

/** Makes an instance of a module that exports `memory` and the function `name`. */
export function instantiate(binary: Uint8Array, name: string): Assembled {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(binary));
  const members = new Map<string, unknown>(Object.entries(exports));
  const [memory, run] = [members.get('memory'), members.get(name)];
  assert(isFunction(run) && isMemory(memory), `the module with ${name} is not what was assembled`);
  return { memory: new Uint8Array(memory.buffer), run };
}

function isMemory(memory: unknown): memory is { readonly buffer: ArrayBuffer } {
  return typeof memory === 'object' && memory !== null && 'buffer' in memory && memory.buffer instanceof ArrayBuffer;
}

function isFunction(value: unknown): value is Assembled['run'] {
  return typeof value === 'function';
}
