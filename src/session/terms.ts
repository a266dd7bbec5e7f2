/** What client and server have agreed on beside the export: how replies look, and which contexts BLOCK_STATUS tells. */
import {
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_SET_META_CONTEXT,
  NBD_REP_ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_TOO_BIG,
} from '../protocol/constants.ts';
import { decodeMetaContextRequest } from '../protocol/meta-context.ts';
import { listedContexts, MAX_QUERIES, type MetaContext, selectedContexts } from './meta-contexts.ts';

/** Simple replies; structured ones; or extended headers, which imply structured replies. */
export type ReplyStyle = 'simple' | 'structured' | 'extended';

/** The terms of one transmission. */
export interface Terms {
  readonly style: ReplyStyle;
  /** The contexts that were selected for its export. */
  readonly contexts: readonly MetaContext[];
}

export const SIMPLE_TERMS: Terms = { style: 'simple', contexts: [] };

/** Why an option is refused: a reply type and its text. */
export interface OptionRefusal {
  readonly type: number;
  readonly text: string;
}

/** An option about contexts that is in order so far; whether its export exists is yet to be seen. */
export interface MetaContextQuestion {
  readonly exportName: string;
  readonly queries: readonly string[];
}

/** What a handshake has agreed on so far. A session that begins anew, behind TLS, begins with a new one. */
export class Negotiation {
  #style: ReplyStyle = 'simple';
  /** The export that `#contexts` were selected for: for any other they are void. */
  #contextsFor = '';
  #contexts: readonly MetaContext[] = [];

  get style(): ReplyStyle {
    return this.#style;
  }

  /** The terms for an export, by the name that the client gives it. */
  termsFor(exportName: string): Terms {
    return { style: this.#style, contexts: exportName === this.#contextsFor ? this.#contexts : [] };
  }

  /** NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS. Null if they are agreed. */
  agree(option: number, dataBytes: number): OptionRefusal | null {
    if (dataBytes > 0) return { type: NBD_REP_ERR_INVALID, text: `option ${option} takes no data, there are ${dataBytes} bytes` };
    const wanted = option === NBD_OPT_EXTENDED_HEADERS ? 'extended' : 'structured';
    if (this.#style === wanted) return { type: NBD_REP_ERR_INVALID, text: `${wanted} replies have been negotiated already` };
    if (this.#style === 'extended') return { type: NBD_REP_ERR_EXT_HEADER_REQD, text: 'extended headers have been negotiated, which imply structured replies' };
    this.#style = wanted;
    return null;
  }

  /** NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT: what is asked, or why it is refused. The latter drops what was selected, in any case. */
  ask(option: number, data: Uint8Array): MetaContextQuestion | OptionRefusal {
    if (option === NBD_OPT_SET_META_CONTEXT) {
      this.#contexts = [];
      if (this.#style === 'simple') return { type: NBD_REP_ERR_INVALID, text: 'contexts need structured replies: negotiate these first' };
    }
    const asked = decodeMetaContextRequest(data);
    if ('invalid' in asked) return { type: NBD_REP_ERR_INVALID, text: asked.invalid };
    const { name, queries } = asked;
    if (queries.length > MAX_QUERIES) return { type: NBD_REP_ERR_TOO_BIG, text: `${queries.length} queries are more than ${MAX_QUERIES}` };
    const stray = queries.find((query) => !query.includes(':'));
    if (stray !== undefined) return { type: NBD_REP_ERR_INVALID, text: `query "${stray}" names no namespace` };
    return { exportName: name, queries };
  }

  /** The answer to a question whose export exists: the contexts to name. NBD_OPT_SET_META_CONTEXT selects them. */
  answer(option: number, { exportName, queries }: MetaContextQuestion): readonly MetaContext[] {
    if (option !== NBD_OPT_SET_META_CONTEXT) return listedContexts(queries);
    this.#contextsFor = exportName;
    this.#contexts = selectedContexts(queries);
    return this.#contexts;
  }
}
