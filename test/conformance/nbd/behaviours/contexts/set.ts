import { NBD_OPT_SET_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'SET_META_CONTEXT selects what it names, and ignores what it does not know',
  section: 'NBD_OPT_SET_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    const selected = async (...queries: string[]): Promise<string> => {
      const contexts = await client.contexts(NBD_OPT_SET_META_CONTEXT, subject.target.exportName, queries);
      return contexts.map(({ name }) => name).join(' ');
    };
    expectEqual('selected by its name', await selected('base:allocation'), 'base:allocation');
    expectEqual('selected among unknown ones', await selected('x-unknown:a', 'base:nothing', 'base:allocation'), 'base:allocation');
    expectEqual('selected by an unknown name', await selected('x-unknown:a'), '');
    expectEqual('selected by no name', await selected(), '');
    expectEqual('selected by the namespace alone', await selected('base:'), '');
    await subject.isInSync(client);
  },
};
