/** All behaviours: each file below `behaviours/` is one. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Behaviour, isBehaviour } from './behaviour.ts';

const FOLDER = new URL('../behaviours/', import.meta.url);
/** `.ts` under vitest, `.js` once compiled. */
const ENDING = import.meta.url.endsWith('.ts') ? '.ts' : '.js';

export interface NamedBehaviour extends Behaviour {
  /** Its file, without the ending: `options/go-short`. */
  readonly id: string;
}

export async function loadBehaviours(): Promise<NamedBehaviour[]> {
  const files = readdirSync(fileURLToPath(FOLDER), { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith(ENDING));
  const all: NamedBehaviour[] = [];
  for (const file of files.toSorted()) {
    const module: unknown = await import(new URL(file, FOLDER).href);
    const behaviour = typeof module === 'object' && module !== null && 'behaviour' in module ? module.behaviour : null;
    if (!isBehaviour(behaviour)) throw new Error(`${file} exports no behaviour`);
    all.push({ ...behaviour, id: file.slice(0, -ENDING.length) });
  }
  return all;
}
