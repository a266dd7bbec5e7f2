import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'EXPORT_NAME is padded with 124 zeroes for a client that did not say NO_ZEROES',
  section: 'NBD_OPT_EXPORT_NAME',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating(1);
    expectEqual('the size of the export', (await client.exportName(subject.target.exportName, true)).sizeBytes, subject.facts.export.sizeBytes);
    await subject.stillTransmits(client);
  },
};
