import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'TLS 1.1 is refused',
  section: 'TLS versions',
  checklist: '1.6',
  level: 'SHOULD',
  needs: ['tls'],
  run: async (subject) => {
    const client = await subject.greeted();
    const begun = client.startTls({ ...subject.target.tls, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
    const version = await begun.then((socket) => socket.getProtocol()).catch(() => null);
    expectEqual('the version of TLS', version, null);
  },
};
