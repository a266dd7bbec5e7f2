/** The value of a flag that counts something. */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value <= 0) throw new Error(`--${name} ${text}: a whole number above 0`);
  return value;
}
