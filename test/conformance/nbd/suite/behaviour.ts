/** What a file of `behaviours/` exports. */
import type { ReplyStyle } from '../../../support/reply-reader.ts';
import type { Subject } from './subject.ts';

export const STYLES = ['simple', 'structured', 'extended'] as const;

/** What a server must have for a behaviour to be checked; `needs.ts` says for each how that is known. */
export type Need =
  | 'writable'
  | 'structured'
  | 'extended'
  | 'base:allocation'
  | 'tls'
  | 'several connections'
  | 'known names'
  | 'another export'
  | 'an export of TLS only'
  | 'a read-only export'
  | 'list'
  | 'flush'
  | 'fua'
  | 'trim'
  | 'write zeroes'
  | 'fast zero'
  | 'cache'
  | 'multi-conn';

export interface Behaviour {
  /** What the server does, as a sentence. */
  readonly title: string;
  /** Heading of the protocol document (doc/proto.md; [ext]: branch extension-ext-header). */
  readonly section: string;
  /** Section of our checklist, NBD.md. */
  readonly checklist: string;
  /** How strongly the document asks for it. MAY: several answers are right, and one of them must come. */
  readonly level: 'MUST' | 'SHOULD' | 'MAY';
  /** Run once with each of these styles of replies; once, with simple ones, if not given. */
  readonly styles?: readonly ReplyStyle[];
  readonly needs?: readonly Need[];
  readonly run: (subject: Subject, style: ReplyStyle) => Promise<void>;
}

export function isBehaviour(value: unknown): value is Behaviour {
  return typeof value === 'object' && value !== null && 'title' in value && 'section' in value && 'checklist' in value && 'level' in value && 'run' in value;
}
