/**
 * The access key of a credentials file: the format of `~/.aws/credentials`, which other programs share. The SDK's own reader takes its file from the
 * environment, for the whole process; two volumes of two stores need two files.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { FileSystem } from '../env/env.ts';

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

const FILE_BYTES_MAX = 64 * 1024;

/** The key of the section `profile`. Rejects with `invalid-argument`, never with a message that has the secret in it. */
export async function readCredentials(files: FileSystem, path: string, profile: string): Promise<S3Credentials> {
  return parseCredentials(await readText(files, path, 'credentials file'), path, profile);
}

/** A small text file of the user's; `what` it is, for messages. */
export async function readText(files: FileSystem, path: string, what: string): Promise<string> {
  try {
    const file = await files.open(path, 'read');
    try {
      const bytes = Buffer.alloc(FILE_BYTES_MAX);
      const length = await file.read(bytes, 0);
      if (length === FILE_BYTES_MAX) throw new VolumeError('invalid-argument', `the ${what} ${path} is longer than ${FILE_BYTES_MAX} bytes`);
      return bytes.toString('utf8', 0, length);
    } finally {
      await file.close();
    }
  } catch (error) {
    const { message } = toVolumeError(error, 'reading it');
    throw new VolumeError('invalid-argument', `the ${what} ${path} cannot be read: ${message}`, { cause: error });
  }
}

/** The same from the file's text; `path` for messages. */
export function parseCredentials(text: string, path: string, profile: string): S3Credentials {
  const values = new Map<string, string>();
  const sections: string[] = [];
  for (const [index, raw] of text.split(/\r?\n/u).entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#') || line.startsWith(';')) continue;
    const section = /^\[([^\]]+)\]$/u.exec(line)?.[1]?.trim();
    const equals = line.indexOf('=');
    if (section !== undefined) sections.push(section);
    else if (equals < 1) throw new VolumeError('invalid-argument', `${path}, line ${index + 1}: neither a [section] nor a "name = value"`);
    else if (sections.at(-1) === profile) values.set(line.slice(0, equals).trim().toLowerCase(), line.slice(equals + 1).trim());
  }
  if (!sections.includes(profile)) {
    throw new VolumeError('invalid-argument', `${path} has no section [${profile}]${sections.length === 0 ? '' : `; it has: ${sections.join(', ')}`}`);
  }
  const need = (name: string): string => {
    const value = values.get(name);
    if (value === undefined || value === '') throw new VolumeError('invalid-argument', `${path}, section [${profile}]: ${name} is missing`);
    return value;
  };
  const token = values.get('aws_session_token');
  return { accessKeyId: need('aws_access_key_id'), secretAccessKey: need('aws_secret_access_key'), ...(token === undefined ? {} : { sessionToken: token }) };
}
