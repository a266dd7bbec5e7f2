import { NBD_OPT_ABORT, NBD_OPT_INFO, NBD_REP_ACK } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes, optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'options behind an ABORT are not answered',
  section: 'NBD_OPT_ABORT',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    client.send(Buffer.concat([optionBytes(NBD_OPT_ABORT), optionBytes(NBD_OPT_INFO, infoRequestBytes(subject.target.exportName)), optionBytes(0x7fff0000)]));
    expectOneOf('the answer to ABORT', (await client.takeOptionReply(NBD_OPT_ABORT)).type, [NBD_REP_ACK], replyName);
    await client.expectEnd();
  },
};
