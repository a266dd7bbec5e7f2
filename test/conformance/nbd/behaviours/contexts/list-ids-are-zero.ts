import { NBD_OPT_LIST_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'LIST_META_CONTEXT gives contexts the id 0: it selects none',
  section: 'NBD_REP_META_CONTEXT',
  checklist: '1.2',
  level: 'SHOULD',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    for (const { id, name } of await client.contexts(NBD_OPT_LIST_META_CONTEXT, subject.target.exportName, [])) expectEqual(`the id of ${name}`, id, 0);
    await subject.isInSync(client);
  },
};
