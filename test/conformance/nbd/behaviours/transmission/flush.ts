import { NBD_CMD_FLUSH, NBD_EINVAL } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'FLUSH is answered, and a length or offset of one means nothing or is refused',
  section: 'NBD_CMD_FLUSH',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['flush'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    await subject.answers(client, { command: NBD_CMD_FLUSH }, [0]);
    await subject.answers(client, { command: NBD_CMD_FLUSH, offset: 0xffff_ffff_ffff_fff0n, length: 4096 }, [0, NBD_EINVAL]);
    await subject.stillTransmits(client);
  },
};
