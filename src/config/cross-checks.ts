/** What must hold between settings. Each one alone is checked by its row in the table. */
import { VolumeError } from '../base/errors.ts';
import { formatSize, isPowerOfTwo } from '../base/units.ts';
import type { ProgramSettings } from './settings.ts';

interface Relation {
  readonly holds: (settings: ProgramSettings) => boolean;
  readonly problem: (settings: ProgramSettings) => string;
}

const RELATIONS: readonly Relation[] = [
  {
    // Readers and the block cache need slabs too: an arena full of dirty ones would starve them.
    holds: ({ engine }) => engine.dirtyBytes < engine.arenaBytes,
    problem: ({ engine }) =>
      `engine.dirty_bytes (${formatSize(engine.dirtyBytes)}) must be smaller than engine.arena_bytes (${formatSize(engine.arenaBytes)})`,
  },
  {
    // A dirty block holds its log space. Below twice the dirty bytes writers would wait for log space, not for memory,
    // whenever small records leave most of a file dead.
    holds: ({ engine }) => engine.logFileBytes * engine.logFileCount >= 2 * engine.dirtyBytes,
    problem: ({ engine }) =>
      `engine.log_file_bytes x engine.log_file_count (${formatSize(engine.logFileBytes * engine.logFileCount)}) must be at least ` +
      `twice engine.dirty_bytes (2 x ${formatSize(engine.dirtyBytes)})`,
  },
  {
    // Otherwise writers wait for memory before the background flush has begun.
    holds: ({ engine }) => engine.flushBytes <= engine.dirtyBytes,
    problem: ({ engine }) =>
      `engine.flush_bytes (${formatSize(engine.flushBytes)}) must not exceed engine.dirty_bytes (${formatSize(engine.dirtyBytes)})`,
  },
  {
    holds: ({ engine }) => engine.logInlineBytes <= engine.logFileBytes,
    problem: ({ engine }) =>
      `engine.log_inline_bytes (${formatSize(engine.logInlineBytes)}) must not exceed engine.log_file_bytes (${formatSize(engine.logFileBytes)})`,
  },
  {
    // No flash has other ones: it is a slip, or a size of something else.
    holds: ({ engine }) => engine.eraseBlockBytes === 0 || isPowerOfTwo(engine.eraseBlockBytes),
    problem: ({ engine }) => `engine.erase_block_bytes (${formatSize(engine.eraseBlockBytes)}) must be a power of two, or 0`,
  },
  {
    // The largest write must be able to arrive at all.
    holds: ({ server }) => server.maxRequestBytes <= server.payloadBytes,
    problem: ({ server }) =>
      `server.max_request_bytes (${formatSize(server.maxRequestBytes)}) must not exceed server.payload_bytes (${formatSize(server.payloadBytes)})`,
  },
  {
    // One connection alone may not need more than there is.
    holds: ({ server }) => server.maxReplyBytes <= server.replyBytes,
    problem: ({ server }) =>
      `server.max_reply_bytes (${formatSize(server.maxReplyBytes)}) must not exceed server.reply_bytes (${formatSize(server.replyBytes)})`,
  },
  {
    // The reply to the largest read must fit.
    holds: ({ server }) => server.maxRequestBytes <= server.maxReplyBytes,
    problem: ({ server }) =>
      `server.max_request_bytes (${formatSize(server.maxRequestBytes)}) must not exceed server.max_reply_bytes (${formatSize(server.maxReplyBytes)})`,
  },
  {
    holds: ({ server }) => server.tls === 'off' || server.tlsCertificates !== '' || server.tlsPskFile !== '',
    problem: ({ server }) => `server.tls = "${server.tls}" needs server.tls_certificates or server.tls_psk_file`,
  },
  {
    holds: ({ control }) => control.listen === '' || control.tokenFile !== '',
    problem: ({ control }) => `control.listen = "${control.listen}" needs control.token_file: nobody comes in over TCP without a token`,
  },
  {
    // Somebody who has made certificates believes that they are used.
    holds: ({ server }) => server.tls !== 'off' || (server.tlsCertificates === '' && server.tlsPskFile === '' && !server.tlsVerifyPeer),
    problem: () => 'server.tls_certificates, server.tls_psk_file and server.tls_verify_peer do nothing while server.tls is "off": set it to "selective" or "forced"',
  },
  {
    // Without a certificate to show or a key to know, nobody could come in; with keys alone, everybody has proved one.
    holds: ({ server }) => !server.tlsVerifyPeer || server.tlsCertificates !== '',
    problem: () => 'server.tls_verify_peer needs server.tls_certificates, for the ca-cert.pem in it',
  },
  {
    holds: ({ server, exports }) => server.tls !== 'off' || [...exports.values()].every(({ tlsRequired }) => !tlsRequired),
    problem: ({ exports }) => `exports.${[...exports].find(([, { tlsRequired }]) => tlsRequired)?.[0]} requires TLS, and server.tls is "off"`,
  },
  {
    holds: ({ server, exports }) => server.tlsVerifyPeer || server.tlsPskFile !== '' || [...exports.values()].every(({ tlsNames }) => tlsNames === null),
    problem: ({ exports }) =>
      `exports.${[...exports].find(([, { tlsNames }]) => tlsNames !== null)?.[0]}.tls_names: nobody proves a name without server.tls_verify_peer or server.tls_psk_file`,
  },
];

/** Throws `invalid-argument` that lists every relation that does not hold. */
export function checkRelations(settings: ProgramSettings): void {
  const problems = RELATIONS.filter(({ holds }) => !holds(settings)).map(({ problem }) => problem(settings));
  if (problems.length > 0) throw new VolumeError('invalid-argument', `settings do not fit together: ${problems.join('; ')}`);
}
