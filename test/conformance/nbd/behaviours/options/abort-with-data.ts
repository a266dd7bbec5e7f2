import { NBD_OPT_ABORT, NBD_REP_ACK, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'ABORT with data is acknowledged all the same, or refused, and the connection closed in order',
  section: 'NBD_OPT_ABORT',
  checklist: '1.2',
  level: 'MAY',
  run: async (subject) => {
    const client = await subject.negotiating();
    client.send(optionBytes(NBD_OPT_ABORT, Buffer.alloc(1000, 'x')));
    const { type } = await client.takeOptionReply(NBD_OPT_ABORT);
    expectOneOf('the answer to ABORT with data', type, [NBD_REP_ACK, NBD_REP_ERR_INVALID], replyName);
    if (type === NBD_REP_ACK) await client.expectEnd();
    else await client.abort();
  },
};
