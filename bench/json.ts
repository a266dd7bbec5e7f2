/** Takes values out of JSON that another program wrote; each getter throws when the value is not what it must be. */

/** The member `name` of an object, or undefined. */
export function member(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([key]) => key === name)?.[1];
}

/** The number at the end of a path of member names. */
export function numberAt(value: unknown, path: readonly string[]): number {
  const found = path.reduce(member, value);
  if (typeof found !== 'number') throw new Error(`no number at ${path.join('.')}`);
  return found;
}

/** The list behind `name`. */
export function listAt(value: unknown, name: string): unknown[] {
  const found = member(value, name);
  if (!Array.isArray(found)) throw new Error(`no list at ${name}`);
  return found;
}
