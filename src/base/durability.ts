/** The durability modes of a volume (DESIGN "Durability modes"): what an answered WRITE and FLUSH promise. */
export const DURABILITY_MODES = ['strict', 'batched', 'relaxed', 'async'] as const;
export type Durability = (typeof DURABILITY_MODES)[number];

export function isDurability(value: unknown): value is Durability {
  return DURABILITY_MODES.some((mode) => mode === value);
}
