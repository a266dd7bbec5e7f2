import { NBD_OPT_INFO, NBD_REP_ACK, NBD_REP_ERR_UNSUP } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes, optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'options that arrive in one packet are answered one after the other',
  section: 'Newstyle negotiation',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    const info = infoRequestBytes(subject.target.exportName);
    client.send(Buffer.concat([optionBytes(0x7fff0001), optionBytes(NBD_OPT_INFO, info), optionBytes(0x7fff0002, Buffer.from('data')), optionBytes(NBD_OPT_INFO, info)]));
    for (const option of [0x7fff0001, NBD_OPT_INFO, 0x7fff0002, NBD_OPT_INFO]) {
      if (option !== NBD_OPT_INFO) {
        expectOneOf('the answer to an unknown option', (await client.takeOptionReply(option)).type, [NBD_REP_ERR_UNSUP], replyName);
        continue;
      }
      while ((await client.takeOptionReply(option)).type !== NBD_REP_ACK);
    }
    await subject.isInSync(client);
  },
};
