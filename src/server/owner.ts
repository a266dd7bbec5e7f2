/** Users and groups by name. Node knows numbers only; `getent` asks whatever the machine keeps them in. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { VolumeError } from '../base/errors.ts';

/** For chown(2); -1 leaves one as it is. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** The owner from `user`, `user:group` or `:group`; null from an empty text. Rejects with `not-found`. */
export async function resolveOwner(text: string): Promise<Owner | null> {
  if (text === '') return null;
  const [user, group = ''] = text.split(':');
  return { uid: await idOf('passwd', user), gid: await idOf('group', group) };
}

async function idOf(database: 'passwd' | 'group', name: string): Promise<number> {
  if (name === '') return -1;
  if (/^\d+$/.test(name)) return Number(name);
  const line = await promisify(execFile)('getent', ['--', database, name]).then(
    ({ stdout }) => stdout,
    () => '',
  );
  const id = /^[^:]*:[^:]*:(\d+):/.exec(line)?.[1];
  if (id === undefined) throw new VolumeError('not-found', `server.socket_owner: there is no ${database === 'passwd' ? 'user' : 'group'} ${JSON.stringify(name)}`);
  return Number(id);
}
