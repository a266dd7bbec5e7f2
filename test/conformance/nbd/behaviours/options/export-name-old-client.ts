import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual, skip } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'a client without fixed newstyle opens an export by EXPORT_NAME',
  section: 'NBD_OPT_EXPORT_NAME',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    if (subject.target.tls !== null) skip('there is no TLS without fixed newstyle');
    for (const flags of [0, 2]) {
      const client = await subject.greeted(flags);
      expectEqual('the size of the export', (await client.exportName(subject.target.exportName, flags === 0)).sizeBytes, subject.facts.export.sizeBytes);
      await subject.stillTransmits(client);
    }
  },
};
