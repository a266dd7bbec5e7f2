import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'INFO tells of the export whatever is asked for: nothing, all, what it does not know, the same twice',
  section: 'NBD_OPT_INFO and NBD_OPT_GO',
  checklist: '1.2',
  level: 'MUST',
  run: async (subject) => {
    const client = await subject.negotiating();
    for (const infos of [[], [0], [0, 1, 2, 3], [0x7777, 3, 0xfffe]]) {
      const info = await client.info(subject.target.exportName, infos);
      expectEqual(`the size, with infos ${infos.join(' ')}`, info.sizeBytes, subject.facts.export.sizeBytes);
      expectEqual(`the flags, with infos ${infos.join(' ')}`, info.transmissionFlags, subject.facts.export.transmissionFlags);
    }
    await subject.isInSync(client);
  },
};
