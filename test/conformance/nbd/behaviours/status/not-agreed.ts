import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'BLOCK_STATUS without a context is refused',
  section: 'NBD_CMD_BLOCK_STATUS',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  run: async (subject, style) => {
    const client = await subject.open(style);
    for (const flags of [0, NBD_CMD_FLAG_REQ_ONE]) await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, flags, offset: 0, length: subject.facts.unit }, [NBD_EINVAL]);
    await subject.stillTransmits(client);
  },
};
