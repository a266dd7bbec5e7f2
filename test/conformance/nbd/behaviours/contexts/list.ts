import { NBD_OPT_LIST_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual, must } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'LIST_META_CONTEXT without a query lists all contexts, each of a namespace, with and without structured replies agreed',
  section: 'NBD_OPT_LIST_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    const listed = await client.contexts(NBD_OPT_LIST_META_CONTEXT, subject.target.exportName, []);
    for (const { name } of listed) must(/^[^:]+:/.test(name), 'the name of a context', { expected: 'namespace:leaf', got: name });
    expectEqual('whether base:allocation is listed', listed.some(({ name }) => name === 'base:allocation'), true);
    await subject.isInSync(client);
  },
};
