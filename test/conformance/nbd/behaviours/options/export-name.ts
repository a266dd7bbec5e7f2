import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'EXPORT_NAME is answered with size and flags alone, and no zeroes for a client that wants none',
  section: 'NBD_OPT_EXPORT_NAME',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    const { sizeBytes, transmissionFlags } = await client.exportName(subject.target.exportName);
    expectEqual('the size of the export', sizeBytes, subject.facts.export.sizeBytes);
    expectEqual('its transmission flags, without structured replies', transmissionFlags, subject.facts.export.transmissionFlags);
    await subject.stillTransmits(client);
  },
};
