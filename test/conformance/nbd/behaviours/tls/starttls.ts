import type { Behaviour } from '../../suite/behaviour.ts';
import { must } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'STARTTLS is acknowledged with not a byte too many, and the handshake goes on in TLS, which is 1.2 or later',
  section: 'NBD_OPT_STARTTLS',
  checklist: '1.6',
  level: 'MUST',
  needs: ['tls'],
  run: async (subject) => {
    const client = await subject.greeted();
    const socket = await client.startTls(subject.target.tls ?? {});
    const version = socket.getProtocol();
    must(version === 'TLSv1.2' || version === 'TLSv1.3', 'the version of TLS', { expected: '1.2 or later', got: String(version) });
    subject.remark = version;
    await subject.isInSync(client);
  },
};
