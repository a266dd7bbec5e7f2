import { NBD_OPT_SET_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'SET_META_CONTEXT selects a context once, however often it is named',
  section: 'NBD_OPT_SET_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    const contexts = await client.contexts(NBD_OPT_SET_META_CONTEXT, subject.target.exportName, ['base:allocation', 'base:allocation']);
    expectEqual('the number of contexts', contexts.length, 1);
    await subject.isInSync(client);
  },
};
