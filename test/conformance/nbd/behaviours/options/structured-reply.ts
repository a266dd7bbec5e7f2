import { NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'STRUCTURED_REPLY is acknowledged, and asked for again refused or acknowledged',
  section: 'NBD_OPT_STRUCTURED_REPLY',
  checklist: '1.2',
  level: 'MUST',
  needs: ['structured'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    client.send(optionBytes(NBD_OPT_STRUCTURED_REPLY));
    const { type } = await client.takeOptionReply(NBD_OPT_STRUCTURED_REPLY);
    expectOneOf('the answer to the second STRUCTURED_REPLY', type, [NBD_REP_ERR_INVALID, NBD_REP_ACK], replyName);
    subject.remark = `the second time: ${replyName(type)}`;
    await client.go(subject.target.exportName);
    await subject.stillTransmits(client);
  },
};
