/** Reads TypeScript source just far enough for the layering test: what it imports and which globals it names. */

export interface ImportUse {
  readonly specifier: string;
  readonly line: number;
}

export interface ScannedSource {
  /** The source with the text of comments, strings, templates and regular expressions blanked; same length, same lines. */
  readonly code: string;
  readonly imports: readonly ImportUse[];
  /** Lines of `import(...)` and `require(...)` whose argument is not one literal: what they load cannot be checked. */
  readonly computedImports: readonly number[];
}

/** After one of these characters (or words) a slash begins a regular expression; after anything else it divides. */
const BEFORE_REGEXP_CHARACTERS = new Set('(,=:[!&|?{};+-*%<>~^');
const BEFORE_REGEXP_WORD = /(?:^|[^.\w$])(?:return|typeof|case|in|of|do|else|void|delete|throw|await|yield)$/;

/** Blanks everything that is not code. */
class Blanker {
  readonly #source: string;
  readonly #out: string[];
  #position = 0;

  constructor(source: string) {
    this.#source = source;
    this.#out = source.split('');
  }

  run(): string {
    this.#code(null);
    return this.#out.join('');
  }

  #blank(from: number, to: number): void {
    for (let index = from; index < to; index += 1) if (this.#source[index] !== '\n') this.#out[index] = ' ';
  }

  /** Walks code up to the closing brace that ends a template's expression, or to the end of the file. */
  #code(closing: '}' | null): void {
    let depth = 0;
    while (this.#position < this.#source.length) {
      const character = this.#source[this.#position];
      const pair = this.#source.slice(this.#position, this.#position + 2);
      if (pair === '//') this.#until('\n', 0);
      else if (pair === '/*') this.#until('*/', 2);
      else if (character === "'" || character === '"') this.#quoted(character);
      else if (character === '`') this.#template();
      else if (character === '/' && this.#regexpMayStart()) this.#regexp();
      else {
        if (character === '{') depth += 1;
        if (character === '}' && closing !== null && depth === 0) return;
        if (character === '}') depth -= 1;
        this.#position += 1;
      }
    }
  }

  #until(end: string, endLength: number): void {
    const found = this.#source.indexOf(end, this.#position + 2);
    const stop = found === -1 ? this.#source.length : found + endLength;
    this.#blank(this.#position, stop);
    this.#position = stop;
  }

  #quoted(quote: string): void {
    const start = this.#position + 1;
    let index = start;
    while (index < this.#source.length && this.#source[index] !== quote && this.#source[index] !== '\n') {
      index += this.#source[index] === '\\' ? 2 : 1;
    }
    this.#blank(start, index);
    this.#position = index + 1;
  }

  #template(): void {
    this.#position += 1;
    while (this.#position < this.#source.length && this.#source[this.#position] !== '`') {
      if (this.#source.startsWith('${', this.#position)) {
        this.#position += 2;
        this.#code('}');
        this.#position += 1;
      } else {
        const length = this.#source[this.#position] === '\\' ? 2 : 1;
        this.#blank(this.#position, this.#position + length);
        this.#position += length;
      }
    }
    this.#position += 1;
  }

  #regexpMayStart(): boolean {
    const before = this.#out.slice(Math.max(0, this.#position - 200), this.#position).join('').trimEnd();
    const last = before.at(-1);
    return last === undefined || BEFORE_REGEXP_CHARACTERS.has(last) || BEFORE_REGEXP_WORD.test(before);
  }

  #regexp(): void {
    const start = this.#position + 1;
    let index = start;
    let inClass = false;
    while (index < this.#source.length && this.#source[index] !== '\n' && (inClass || this.#source[index] !== '/')) {
      if (this.#source[index] === '[') inClass = true;
      if (this.#source[index] === ']') inClass = false;
      index += this.#source[index] === '\\' ? 2 : 1;
    }
    this.#blank(start, index);
    this.#position = index + 1;
  }
}

const LITERAL_IMPORTS = [
  /\bfrom\s*(['"])/g, // import ... from, export ... from
  /\bimport\s*(['"])/g,
  /\bimport\s*\(\s*(['"])/g,
  /\brequire\s*\(\s*(['"])/g,
  /\bnew\s+URL\s*\(\s*(['"])/g, // worker entries
];

export function lineAt(source: string, index: number): number {
  return source.slice(0, index).split('\n').length;
}

export function scanSource(source: string): ScannedSource {
  const code = new Blanker(source).run();
  const imports: ImportUse[] = [];
  for (const pattern of LITERAL_IMPORTS) {
    for (const match of code.matchAll(pattern)) {
      const start = match.index + match[0].length;
      const quote = match[1] ?? '';
      imports.push({ specifier: source.slice(start, source.indexOf(quote, start)), line: lineAt(source, match.index) });
    }
  }
  const computedImports = [...code.matchAll(/(?<![.\w$])(?:import|require)\s*\(\s*(?!['"\s)])/g)].map((match) => lineAt(source, match.index));
  return { code, imports: imports.toSorted((first, second) => first.line - second.line), computedImports };
}
