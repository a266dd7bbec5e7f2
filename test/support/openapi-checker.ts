/** The API's document, and whether answers and bodies are as it says: by a validator that is not ours. */
import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { at } from './json-schema.ts';

const document: unknown = JSON.parse(readFileSync(new URL('../../src/control/openapi.json', import.meta.url), 'utf8'));
/** Strict: a keyword that the validator does not know is an error, not a check that is left out. */
const ajv = new Ajv2020({ strict: true, allErrors: true });
ajv.addVocabulary(['components']);

type Table = Readonly<Record<string, unknown>>;

function tableAt(...path: readonly string[]): Table {
  const value = at(document, path);
  if (typeof value !== 'object' || value === null) throw new Error(`openapi.json has no ${path.join(' ')}`);
  return { ...value };
}

export interface Operation {
  readonly path: string;
  readonly method: string;
}

/** All that the document has. */
export function operations(): readonly Operation[] {
  return Object.keys(tableAt('paths')).flatMap((path) => Object.keys(tableAt('paths', path)).filter((key) => key !== 'parameters').map((method) => ({ path, method })));
}

/** What is wrong with a value, as the schema at `path` of the document has it; none: nothing. */
function problems(path: readonly string[], value: unknown): readonly string[] {
  const validate = ajv.compile({ ...tableAt(...path), components: tableAt('components') });
  return validate(value) ? [] : (validate.errors ?? []).map(({ instancePath, message = '' }) => `${instancePath}: ${message}`);
}

/** What is wrong with an answer: a status or a type that the document does not name, or its body. Each line of lines of JSON is looked at. */
export function answerProblems({ path, method }: Operation, answer: { readonly status: number; readonly type: string; readonly text: string }): readonly string[] {
  const responses = ['paths', path, method, 'responses'];
  const named = Object.hasOwn(tableAt(...responses), String(answer.status)) ? String(answer.status) : 'default';
  if (named === 'default' && answer.status < 400) return [`status ${answer.status} is not in the document`];
  const content = [...responses, named, 'content'];
  const type = answer.type.split(';')[0];
  if (!Object.hasOwn(tableAt(...content), type)) return [`type ${type} of status ${answer.status} is not in the document`];
  if (type.startsWith('text/')) return answer.text === '' ? ['is empty'] : [];
  const lines = type === 'application/x-ndjson' ? answer.text.trimEnd().split('\n') : [answer.text];
  return lines.flatMap((line) => problems([...content, type, 'schema'], JSON.parse(line)));
}

/** Where the schema of its body is; null: it takes none. */
function bodyPath({ path, method }: Operation): readonly string[] | null {
  const body = ['paths', path, method, 'requestBody'];
  return at(document, body) === undefined ? null : [...body, 'content', 'application/json', 'schema'];
}

/** What is wrong with a body that is sent. */
export function bodyProblems(operation: Operation, body: unknown): readonly string[] {
  const path = bodyPath(operation);
  if (path === null) return body === null ? [] : ['takes no body'];
  return problems(path, body);
}

/** The fields of its body; null: it takes none. */
export function bodyFields(operation: Operation): readonly string[] | null {
  const path = bodyPath(operation);
  if (path === null) return null;
  const name = String(at(document, [...path, '$ref'])).replace('#/components/schemas/', '');
  return Object.keys(tableAt('components', 'schemas', name, 'properties'));
}
