/** Reading the body of a request: what it may hold, and what is wrong with it. All throw `invalid-argument`. */
import { VolumeError } from '../base/errors.ts';
import { nearest } from '../config/nearest.ts';

/** The members of a JSON object that may have `allowed` ones only; `what` it is. */
export function fieldsOf(body: unknown, allowed: readonly string[], what = 'the body'): Readonly<Record<string, unknown>> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new VolumeError('invalid-argument', `${what} must be a JSON object with ${allowed.join(', ')}`);
  const unknown = Object.keys(body).find((key) => !allowed.includes(key));
  if (unknown !== undefined) throw new VolumeError('invalid-argument', `no field ${JSON.stringify(unknown)}; did you mean ${nearest(unknown, allowed)}?`);
  return { ...body };
}

export function textField(fields: Readonly<Record<string, unknown>>, key: string): string {
  const value = fields[key];
  if (typeof value !== 'string') throw new VolumeError('invalid-argument', `"${key}" must be a text`);
  return value;
}

export function bytesField(fields: Readonly<Record<string, unknown>>, key: string): number {
  const value = fields[key];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new VolumeError('invalid-argument', `"${key}" must be a whole number of bytes`);
  return value;
}

/** False if it is not there. */
export function flagField(fields: Readonly<Record<string, unknown>>, key: string): boolean {
  const value = fields[key] ?? false;
  if (typeof value !== 'boolean') throw new VolumeError('invalid-argument', `"${key}" must be true or false`);
  return value;
}
