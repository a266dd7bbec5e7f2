import {
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ERR_TLS_REQD,
} from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { skip } from '../../suite/check.ts';

const OPTIONS = [NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, NBD_OPT_EXTENDED_HEADERS, 0x7fff0000];

export const behaviour: Behaviour = {
  title: 'a server that forces TLS answers TLS_REQD to every option before it but STARTTLS and ABORT',
  section: 'FORCEDTLS mode',
  checklist: '1.6',
  level: 'MUST',
  needs: ['tls'],
  run: async (subject) => {
    if (!subject.facts.forcesTls) skip('does not force TLS');
    const client = await subject.greeted();
    for (const option of OPTIONS) await subject.refuses(client, option, Buffer.alloc(0), [NBD_REP_ERR_TLS_REQD]);
    await client.startTls(subject.target.tls ?? {});
    await subject.isInSync(client);
  },
};
