import { NBD_OPT_INFO, NBD_REP_ACK, NBD_REP_INFO } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes, optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'a handshake that arrives byte by byte is the same handshake',
  section: 'Newstyle negotiation',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const byte of optionBytes(NBD_OPT_INFO, infoRequestBytes(subject.target.exportName, [3]))) {
      client.send(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    for (;;) {
      const { type } = await client.takeOptionReply(NBD_OPT_INFO);
      if (type === NBD_REP_ACK) break;
      expectOneOf('a reply to INFO', type, [NBD_REP_INFO], replyName);
    }
    await subject.isInSync(client);
  },
};
