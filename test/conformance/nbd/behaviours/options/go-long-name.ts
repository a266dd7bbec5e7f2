import {
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_INFO,
} from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes, optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'INFO and GO with a name of 4097 bytes are refused, and the handshake goes on; 4096 are a name',
  section: 'String values',
  checklist: '1.1',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) {
      await subject.refuses(client, option, infoRequestBytes(Buffer.alloc(4097, 'x')), [NBD_REP_ERR_INVALID, NBD_REP_ERR_TOO_BIG]);
    }
    client.send(optionBytes(NBD_OPT_INFO, infoRequestBytes(Buffer.alloc(4096, 'x'))));
    const { type } = await client.takeOptionReply(NBD_OPT_INFO);
    expectOneOf('the answer to INFO with a name of 4096 bytes', type, [...subject.refusalsOfUnknown, ...(subject.facts.takesAnyName ? [NBD_REP_INFO] : [])], replyName);
    if (type === NBD_REP_INFO) while ((await client.takeOptionReply(NBD_OPT_INFO)).type !== NBD_REP_ACK);
    await subject.isInSync(client);
  },
};
