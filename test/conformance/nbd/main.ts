/** `make conformance`: the protocol, behaviour by behaviour, against the server of a URI, or basalt in each of its ways. Ends with 1 if something failed. */
import { parseArgs } from 'node:util';
import { DEVIATIONS, KNOWN_SERVERS, type KnownServer } from './suite/deviations.ts';
import { loadBehaviours, type NamedBehaviour } from './suite/load.ts';
import { tableOf } from './suite/report.ts';
import { type Result, runSuite } from './suite/runner.ts';
import { BASALT_WAYS, type BasaltWay, type RunningServer, startBasalt, startKnown } from './suite/servers.ts';
import { targetOf } from './suite/target.ts';

const USAGE = `usage: make conformance [URI=...] [ARGS="..."]

Checks what a server does against the NBD protocol, one behaviour at a time, and prints a table: behaviour, section of the protocol, and
ok, skipped (why), known deviation (what) or FAILED (expected, got, the last bytes). Without a URI: basalt over tcp, a unix socket, TLS (forced, selective) and --stdio.

  URI=nbd://HOST:PORT/EXPORT   URI='nbd+unix:///EXPORT?socket=PATH'   URI='nbds://HOST:PORT/EXPORT?tls-certificates=DIRECTORY'
  (nbds+unix, tls-psk-file=FILE with USER@, tls-hostname=NAME, tls-verify-peer=false as libnbd has them)

IT WRITES to the export, wherever it likes, if the export is writable, AND RESTORES NOTHING. A read-only export loses nothing, and less is checked.

  --against NAMES       instead of a URI: of ${[...BASALT_WAYS, ...KNOWN_SERVERS].join(', ')}, or one of the latter with +tls (${BASALT_WAYS.join(',')})
                        (CONFORMANCE_NBDKIT, CONFORMANCE_QEMU_NBD: another program of that kind than the one on the path)
  --only TEXT           behaviours whose names have it in them, such as options/ or [extended]
  --known NAME          what this server is known to do otherwise is no failure: ${KNOWN_SERVERS.join(', ')}
  --other-export NAME   another export of the server of the URI
  --tls-only-export NAME  one that it serves in TLS only, while that of the URI is served without, too
  --read-only-uri URI   a read-only export, of whatever server
  --handshake-limit MS  the server drops who negotiates longer
  --timeout MS          how long one behaviour may take (20000)
  --list                say what would be checked
`;

const { values } = parseArgs({
  options: {
    uri: { type: 'string', default: '' },
    against: { type: 'string', default: BASALT_WAYS.join(',') },
    only: { type: 'string', default: '' },
    known: { type: 'string' },
    'other-export': { type: 'string' },
    'tls-only-export': { type: 'string' },
    'read-only-uri': { type: 'string' },
    'handshake-limit': { type: 'string' },
    timeout: { type: 'string', default: '20000' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

function knownServer(name: string | undefined): KnownServer | null {
  if (name === undefined) return null;
  const found = KNOWN_SERVERS.find((server) => server === name);
  if (found === undefined) throw new Error(`--known ${name}: one of ${KNOWN_SERVERS.join(', ')}`);
  return found;
}

function basaltWay(name: string): BasaltWay {
  const found = BASALT_WAYS.find((way) => way === name);
  if (found === undefined) throw new Error(`--against ${name}: of ${[...BASALT_WAYS, ...KNOWN_SERVERS].join(', ')}`);
  return found;
}

async function uriServer(): Promise<RunningServer> {
  const [readOnly, limit] = [values['read-only-uri'], values['handshake-limit']];
  const target = await targetOf(values.uri, {
    otherExport: values['other-export'] ?? null,
    tlsOnlyExport: values['tls-only-export'] ?? null,
    readOnly: readOnly === undefined ? null : await targetOf(readOnly),
    handshakeLimitMs: limit === undefined ? null : Number(limit),
  });
  return { target, stop: () => Promise.resolve() };
}

async function check(heading: string, server: RunningServer, known: KnownServer | null, behaviours: readonly NamedBehaviour[]): Promise<Result[]> {
  try {
    const results = await runSuite(server.target, {
      behaviours,
      known: known === null ? [] : DEVIATIONS[known],
      timeoutMs: Number(values.timeout),
      selected: (name) => name.includes(values.only),
      onResult: ({ name, verdict }) => process.stderr.write(verdict === 'FAILED' ? `${heading}: FAILED ${name}\n` : ''),
    });
    process.stdout.write(tableOf(heading, results));
    return results;
  } finally {
    await server.stop();
  }
}

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const behaviours = await loadBehaviours();
  if (values.list) {
    for (const { id, title, section, level } of behaviours) process.stdout.write(`${id.padEnd(40)} ${level.padEnd(6)} ${section}: ${title}\n`);
    return;
  }
  const results: Result[] = [];
  if (values.uri !== '') {
    results.push(...(await check(values.uri, await uriServer(), knownServer(values.known), behaviours)));
  } else {
    for (const name of values.against.split(',')) {
      const known = KNOWN_SERVERS.find((server) => name === server || name === `${server}+tls`) ?? null;
      const server = known === null ? await startBasalt(basaltWay(name)) : await startKnown(known, name !== known);
      results.push(...(await check(known === null ? `basalt over ${name}` : name, server, known, behaviours)));
    }
  }
  if (results.length === 0) throw new Error(`--only ${values.only}: there is no such behaviour`);
  process.exitCode = results.some(({ verdict }) => verdict === 'FAILED') ? 1 : 0;
}

await main().catch((error: unknown) => {
  process.stderr.write(`conformance: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
