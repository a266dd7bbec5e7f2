import { NBD_CMD_READ, NBD_EINVAL, NBD_EOVERFLOW } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';

export const behaviour: Behaviour = {
  title: 'a READ of 4 GiB is refused, but never with ENOMEM, and sends no data',
  section: 'NBD_CMD_READ',
  checklist: '1.4',
  level: 'SHOULD',
  styles: STYLES,
  run: async (subject, style) => {
    const client = await subject.open(style);
    await subject.answers(client, { command: NBD_CMD_READ, offset: 0, length: 0xffffffff }, [NBD_EINVAL, NBD_EOVERFLOW]);
    await subject.stillTransmits(client);
  },
};
