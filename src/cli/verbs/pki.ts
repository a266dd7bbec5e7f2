/** `basalt pki DIRECTORY` */
import type { Argv, Options } from 'yargs';
import { UsageError, type CliContext, type PkiPlan } from '../context.ts';
import { JSON_FLAG, once } from '../flags.ts';
import { formatJson } from '../output.ts';
import { shellWord } from './create.ts';

const DAYS_MAX = 3650;
/** What certificates can hold of a name without doubt about its spelling. */
const NAME = /^[\w.:@ -]{1,64}$/;

function daysOf(value: string | readonly string[]): number {
  const text = once('days')(value);
  const days = Number(text);
  if (!/^\d+$/.test(text) || days < 1 || days > DAYS_MAX) throw new UsageError(`days "${text}" is no number from 1 to ${DAYS_MAX}`, { flag: 'days' });
  return days;
}

function nameOf(flag: string, name: string): string {
  if (!NAME.test(name)) throw new UsageError(`--${flag} ${JSON.stringify(name)}: at most 64 letters of ASCII, digits and . : @ - _`, { flag });
  return name;
}

export const pkiFlags = {
  host: { type: 'string', array: true, requiresArg: true, describe: 'name or address by which clients reach the server; may be repeated. localhost, 127.0.0.1 and ::1 are always among them' },
  client: { type: 'string', requiresArg: true, default: 'client', coerce: once('client'), describe: 'name of the client, for tls_names' },
  days: { type: 'string', requiresArg: true, default: '365', coerce: daysOf, describe: 'how long the certificates hold' },
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

function describeMade({ directory, clientName }: PkiPlan, files: readonly string[]): string {
  const word = shellWord(directory);
  return [
    `made ${files.join(', ')} in ${directory}`,
    `  serve:   basalt serve --server.tls forced --server.tls-certificates ${word} --server.tls-verify-peer true`,
    `  look:    nbdinfo ${shellWord(`nbds://localhost/?tls-certificates=${directory}`)}`,
    `  a client needs ca-cert.pem, client-cert.pem and client-key.pem; its name is ${clientName}`,
    '  whoever has ca-key.pem can make more: keep it elsewhere',
    '',
  ].join('\n');
}

export function addPki(program: Argv, context: CliContext): Argv {
  return program.command(
    'pki <directory>',
    'make certificates for a first try of TLS',
    (verb) =>
      verb
        .positional('directory', { type: 'string', demandOption: true, describe: 'where to; made if it is missing. No file is ever overwritten' })
        .options(pkiFlags)
        .example('$0 pki pki', 'a small authority, a server for localhost and a client, in ./pki')
        .example('$0 pki pki --host nbd.example --client alice', 'for a server of that name and a client named alice'),
    async (parsed) => {
      const hosts = (parsed.host ?? []).map((name) => nameOf('host', name));
      const plan = { directory: parsed.directory, hosts, clientName: nameOf('client', parsed.client), days: parsed.days };
      const files = await context.makePki(plan);
      context.terminal.out(parsed.json ? formatJson({ directory: parsed.directory, files }) : describeMade(plan, files));
    },
  );
}
