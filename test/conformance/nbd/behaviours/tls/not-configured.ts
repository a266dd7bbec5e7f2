import { NBD_OPT_STARTTLS, NBD_REP_ACK, NBD_REP_ERR_PLATFORM, NBD_REP_ERR_POLICY, NBD_REP_ERR_UNSUP } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf, skip } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

export const behaviour: Behaviour = {
  title: 'STARTTLS where there is no TLS is refused, and the handshake goes on',
  section: 'NBD_OPT_STARTTLS',
  checklist: '1.6',
  level: 'MUST',
  run: async (subject) => {
    if (subject.target.tls !== null) skip('there is TLS');
    const client = await subject.greeted();
    client.send(optionBytes(NBD_OPT_STARTTLS));
    const { type } = await client.takeOptionReply(NBD_OPT_STARTTLS);
    if (type === NBD_REP_ACK) skip('there is TLS, but the URI is not one of it');
    expectOneOf('the answer to STARTTLS', type, [NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY, NBD_REP_ERR_PLATFORM], replyName);
    await subject.isInSync(client);
  },
};
