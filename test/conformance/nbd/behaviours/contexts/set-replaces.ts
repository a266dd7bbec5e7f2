import { NBD_CMD_BLOCK_STATUS, NBD_EINVAL, NBD_OPT_SET_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'SET_META_CONTEXT replaces what was selected before: with nothing, BLOCK_STATUS is refused',
  section: 'NBD_OPT_SET_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  styles: ['structured', 'extended'],
  needs: ['base:allocation'],
  run: async (subject, style) => {
    const client = await subject.agreed(style);
    await client.contexts(NBD_OPT_SET_META_CONTEXT, subject.target.exportName, ['base:allocation']);
    await client.contexts(NBD_OPT_SET_META_CONTEXT, subject.target.exportName, []);
    await client.go(subject.target.exportName);
    await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset: 0, length: subject.facts.unit }, [NBD_EINVAL]);
    await subject.stillTransmits(client);
  },
};
