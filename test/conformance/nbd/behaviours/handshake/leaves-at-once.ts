import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'a client that leaves after the greeting, or in the middle of an option, is let go',
  section: 'Newstyle negotiation',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    for (const byteCount of [0, 8, 15, 16, 18]) {
      const client = await subject.negotiating();
      client.send(optionBytes(0x7fff0000, Buffer.from('data')).subarray(0, byteCount));
      client.endInput();
      // A server may answer an option before its data are there.
      await (byteCount < 16 ? client.expectEnd() : client.untilEnd());
    }
  },
};
