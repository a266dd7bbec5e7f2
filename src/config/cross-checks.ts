/** What must hold between settings. Each one alone is checked by its row in the table. */
import { VolumeError } from '../base/errors.ts';
import { formatSize } from '../base/units.ts';
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
];

/** Throws `invalid-argument` that lists every relation that does not hold. */
export function checkRelations(settings: ProgramSettings): void {
  const problems = RELATIONS.filter(({ holds }) => !holds(settings)).map(({ problem }) => problem(settings));
  if (problems.length > 0) throw new VolumeError('invalid-argument', `settings do not fit together: ${problems.join('; ')}`);
}
