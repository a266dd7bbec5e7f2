/** A check of JSON values against the part of JSON Schema that `src/control/openapi.json` uses; anything else in a schema is an error. */

type Schema = Readonly<Record<string, unknown>>;

const KNOWN = new Set(['$ref', 'type', 'description', 'properties', 'required', 'additionalProperties', 'items', 'enum', 'oneOf', 'minimum', 'default']);

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function at(root: unknown, path: readonly string[]): unknown {
  let value = root;
  for (const key of path) value = isSchema(value) ? value[key] : undefined;
  return value;
}

/** All that is wrong with `value`, with its place. */
export function violations(root: unknown, schema: unknown, value: unknown, place = '$'): string[] {
  if (!isSchema(schema)) return [`${place}: there is no schema for it`];
  const strange = Object.keys(schema).filter((key) => !KNOWN.has(key));
  if (strange.length > 0) return [`${place}: the checker does not know ${strange.join(', ')}`];
  if (typeof schema.$ref === 'string') return violations(root, at(root, schema.$ref.slice(2).split('/')), value, place);
  if (Array.isArray(schema.oneOf)) {
    const outcomes = schema.oneOf.map((one) => violations(root, one, value, place));
    return outcomes.some((outcome) => outcome.length === 0) ? [] : outcomes.flat();
  }
  if (Array.isArray(schema.enum)) return schema.enum.includes(value) ? [] : [`${place}: ${JSON.stringify(value)} is none of ${schema.enum.join(', ')}`];
  const problem = typeProblem(schema, value);
  if (problem !== null) return [`${place}: ${problem}`];
  if (Array.isArray(value)) return value.flatMap((item, index) => violations(root, schema.items, item, `${place}[${index}]`));
  return isSchema(value) ? memberViolations(root, schema, value, place) : [];
}

function typeProblem(schema: Schema, value: unknown): string | null {
  const actual = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
  const expected = schema.type === 'integer' ? 'number' : schema.type;
  if (actual !== expected) return `${actual}, not ${String(schema.type)}`;
  if (schema.type === 'integer' && !Number.isSafeInteger(value)) return `${String(value)} is not whole`;
  if (typeof schema.minimum === 'number' && typeof value === 'number' && value < schema.minimum) return `${value} is less than ${schema.minimum}`;
  return null;
}

function memberViolations(root: unknown, schema: Schema, value: Schema, place: string): string[] {
  const properties = isSchema(schema.properties) ? schema.properties : {};
  const required = Array.isArray(schema.required) ? schema.required : [];
  const missing = required.filter((key) => typeof key === 'string' && !Object.hasOwn(value, key)).map((key) => `${place}: no ${String(key)}`);
  const wrong = Object.entries(value).flatMap(([key, member]) => {
    if (Object.hasOwn(properties, key)) return violations(root, properties[key], member, `${place}.${key}`);
    if (schema.additionalProperties === true) return [];
    return isSchema(schema.additionalProperties) ? violations(root, schema.additionalProperties, member, `${place}.${key}`) : [`${place}: ${key} is not described`];
  });
  return [...missing, ...wrong];
}
