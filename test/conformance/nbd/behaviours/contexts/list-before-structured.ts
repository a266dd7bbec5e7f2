import { NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK, NBD_REP_ERR_INVALID, NBD_REP_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import { metaContextBytes, optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'LIST_META_CONTEXT before structured replies are agreed is answered, or refused, and the handshake goes on',
  section: 'NBD_OPT_LIST_META_CONTEXT',
  checklist: '1.2',
  level: 'MAY',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.negotiating();
    client.send(optionBytes(NBD_OPT_LIST_META_CONTEXT, metaContextBytes(subject.target.exportName, [])));
    let reply = await client.takeOptionReply(NBD_OPT_LIST_META_CONTEXT);
    while (reply.type === NBD_REP_META_CONTEXT) reply = await client.takeOptionReply(NBD_OPT_LIST_META_CONTEXT);
    expectOneOf('the answer', reply.type, [NBD_REP_ACK, NBD_REP_ERR_INVALID], replyName);
    subject.remark = replyName(reply.type);
    await subject.isInSync(client);
  },
};
