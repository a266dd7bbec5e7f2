import { NBD_OPT_EXTENDED_HEADERS, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_POLICY, NBD_REP_ERR_UNSUP } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { skip } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'a server without structured replies, or extended headers, says so, and the handshake goes on',
  section: 'Option types',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const { structured, extended } = subject.facts;
    if (structured && extended) skip('has both');
    const client = await subject.negotiating();
    if (!structured) await subject.refuses(client, NBD_OPT_STRUCTURED_REPLY, Buffer.alloc(0), [NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY]);
    if (!extended) await subject.refuses(client, NBD_OPT_EXTENDED_HEADERS, Buffer.alloc(0), [NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY]);
    await subject.isInSync(client);
  },
};
