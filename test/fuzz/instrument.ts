/**
 * Puts a counter at every branch of the compiled `src/session` and `src/protocol` below a folder: what the fuzzer's feedback is made of.
 * Counters are bytes of one array that all modules share; `edges.json` says where each stands.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'acorn';

const FOLDERS = ['src/session', 'src/protocol'] as const;
const PREFIX = 'const __edges = (globalThis.__basaltEdges ??= new Uint8Array(1 << 14)); ';
const BRANCHES: Readonly<Record<string, readonly string[]>> = {
  IfStatement: ['consequent', 'alternate'],
  ConditionalExpression: ['consequent', 'alternate'],
  LogicalExpression: ['right'],
  ForStatement: ['body'],
  ForOfStatement: ['body'],
  ForInStatement: ['body'],
  WhileStatement: ['body'],
  DoWhileStatement: ['body'],
  CatchClause: ['body'],
  FunctionDeclaration: ['body'],
  FunctionExpression: ['body'],
  ArrowFunctionExpression: ['body'],
};

interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

function isNode(value: unknown): value is SyntaxNode {
  return typeof value === 'object' && value !== null && 'type' in value && 'start' in value && typeof value.type === 'string';
}

export interface Edge {
  readonly file: string;
  readonly line: number;
}

export function isEdge(value: unknown): value is Edge {
  return typeof value === 'object' && value !== null && 'file' in value && 'line' in value && typeof value.file === 'string' && typeof value.line === 'number';
}

class FileInstrumenter {
  readonly #source: string;
  readonly #file: string;
  readonly #edges: Edge[];
  /** `close` stands before `open` where both fall on one place. */
  readonly #insertions: { readonly at: number; readonly opens: boolean; readonly text: string }[] = [];

  constructor(source: string, file: string, edges: Edge[]) {
    this.#source = source;
    this.#file = file;
    this.#edges = edges;
  }

  run(): string {
    this.#visit(parse(this.#source, { ecmaVersion: 2024, sourceType: 'module' }));
    const ordered = this.#insertions.map((insertion, index) => ({ ...insertion, index })).sort((a, b) => a.at - b.at || Number(a.opens) - Number(b.opens) || a.index - b.index);
    let text = PREFIX;
    let from = 0;
    for (const { at, text: inserted } of ordered) {
      text += this.#source.slice(from, at) + inserted;
      from = at;
    }
    return text + this.#source.slice(from);
  }

  #counter(at: number): string {
    this.#edges.push({ file: this.#file, line: this.#source.slice(0, at).split('\n').length });
    return `__edges[${this.#edges.length - 1}]++`;
  }

  #visit(node: SyntaxNode): void {
    const closings: { readonly at: number; readonly text: string }[] = [];
    for (const key of BRANCHES[node.type] ?? []) {
      const branch: unknown = Reflect.get(node, key);
      if (isNode(branch)) closings.push(...this.#mark(branch));
    }
    if (node.type === 'IfStatement' && Reflect.get(node, 'alternate') === null) closings.push({ at: node.end, text: ` else { ${this.#counter(node.end - 1)}; }` });
    if (node.type === 'SwitchCase') this.#markCase(node);
    for (const child of Object.values(node)) {
      if (isNode(child)) this.#visit(child);
      else if (Array.isArray(child)) for (const item of child) if (isNode(item)) this.#visit(item);
    }
    for (const { at, text } of closings) this.#insertions.push({ at, opens: false, text });
  }

  #mark(branch: SyntaxNode): { readonly at: number; readonly text: string }[] {
    const counter = this.#counter(branch.start);
    if (branch.type === 'BlockStatement') {
      this.#insertions.push({ at: branch.start + 1, opens: true, text: ` ${counter};` });
      return [];
    }
    const isStatement = branch.type.endsWith('Statement') || branch.type.endsWith('Declaration');
    this.#insertions.push({ at: branch.start, opens: true, text: isStatement ? `{ ${counter}; ` : `(${counter}, ` });
    return [{ at: branch.end, text: isStatement ? ' }' : ')' }];
  }

  #markCase(node: SyntaxNode): void {
    const statements: unknown = Reflect.get(node, 'consequent');
    const first: unknown = Array.isArray(statements) ? statements.at(0) : null;
    if (isNode(first)) this.#insertions.push({ at: first.start, opens: true, text: `${this.#counter(first.start)}; ` });
  }
}

/** Instruments what was compiled to `root`, once. */
export function instrument(root: string): void {
  const edges: Edge[] = [];
  for (const folder of FOLDERS) {
    for (const name of readdirSync(join(root, folder)).sort()) {
      const path = join(root, folder, name);
      const source = name.endsWith('.js') ? readFileSync(path, 'utf8') : '';
      if (source === '' || source.startsWith(PREFIX)) continue;
      writeFileSync(path, new FileInstrumenter(source, `${folder}/${name.replace(/js$/, 'ts')}`, edges).run());
    }
  }
  if (edges.length > 0) writeFileSync(join(root, 'edges.json'), JSON.stringify(edges));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) instrument(join(import.meta.dirname, '../..'));
