import { NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, NBD_REP_ERR_PLATFORM, NBD_REP_ERR_POLICY, NBD_REP_ERR_UNSUP } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'STARTTLS with data is refused, no TLS begins, and the handshake goes on',
  section: 'NBD_OPT_STARTTLS',
  checklist: '1.6',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.greeted();
    const refusals = subject.target.tls === null ? [NBD_REP_ERR_INVALID, NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY, NBD_REP_ERR_PLATFORM] : [NBD_REP_ERR_INVALID];
    await subject.refuses(client, NBD_OPT_STARTTLS, Buffer.from('data'), refusals);
    if (subject.target.tls !== null) await client.startTls(subject.target.tls);
    await subject.isInSync(client);
  },
};
