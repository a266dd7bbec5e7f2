import { NBD_OPT_LIST_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'LIST_META_CONTEXT finds a context by its name and by its namespace, and nothing for what it does not know',
  section: 'NBD_OPT_LIST_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    const found = async (...queries: string[]): Promise<string> => {
      const contexts = await client.contexts(NBD_OPT_LIST_META_CONTEXT, subject.target.exportName, queries);
      return contexts.map(({ name }) => name).join(' ');
    };
    expectEqual('what base:allocation finds', await found('base:allocation'), 'base:allocation');
    expectEqual('what base: finds', await found('base:'), 'base:allocation');
    expectEqual('what an unknown namespace finds', await found('x-unknown:'), '');
    expectEqual('what an unknown leaf finds', await found('base:nothing'), '');
    expectEqual('what a known and an unknown one find', await found('x-unknown:a', 'base:allocation', 'base:nothing'), 'base:allocation');
    await subject.isInSync(client);
  },
};
