import {
  NBD_OPT_LIST_META_CONTEXT,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_META_CONTEXT,
} from '../../../../../src/protocol/constants.ts';
import { metaContextBytes, optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual, expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

const QUERIES = 500;

export const behaviour: Behaviour = {
  title: '500 queries are answered as one would be, or refused as too many, and the handshake goes on',
  section: 'NBD_OPT_LIST_META_CONTEXT',
  checklist: '1.2',
  level: 'MAY',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    const queries = [...Array.from({ length: QUERIES }, (_, index) => `x-unknown:${index}`), 'base:allocation'];
    client.send(optionBytes(NBD_OPT_LIST_META_CONTEXT, metaContextBytes(subject.target.exportName, queries)));
    const replies = [await client.takeOptionReply(NBD_OPT_LIST_META_CONTEXT)];
    while (replies.at(-1)?.type === NBD_REP_META_CONTEXT) replies.push(await client.takeOptionReply(NBD_OPT_LIST_META_CONTEXT));
    const last = replies.at(-1)?.type ?? 0;
    expectOneOf('the answer', last, [NBD_REP_ACK, NBD_REP_ERR_TOO_BIG, NBD_REP_ERR_INVALID], replyName);
    if (last === NBD_REP_ACK) expectEqual('the number of contexts', replies.length - 1, 1);
    subject.remark = replyName(last);
    await subject.isInSync(client);
  },
};
