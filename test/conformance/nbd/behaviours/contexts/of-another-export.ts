import { NBD_CMD_BLOCK_STATUS, NBD_EINVAL, NBD_OPT_SET_META_CONTEXT } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'contexts that were selected for one export are void for another: BLOCK_STATUS is refused',
  section: 'NBD_OPT_SET_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  styles: ['structured', 'extended'],
  needs: ['base:allocation', 'another export'],
  run: async (subject, style) => {
    const client = await subject.agreed(style);
    await client.contexts(NBD_OPT_SET_META_CONTEXT, subject.target.exportName, ['base:allocation']);
    client.reader.contexts = [];
    await client.go(subject.target.otherExport ?? '');
    await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 4096 }, [NBD_EINVAL]);
    await subject.stillTransmits(client);
  },
};
