import { NBD_CMD_CACHE } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'CACHE is answered, and changes nothing',
  section: 'NBD_CMD_CACHE',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['cache', 'writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const length = 16 * subject.facts.unit;
    await client.write(0, pattern(length, 4));
    await subject.answers(client, { command: NBD_CMD_CACHE, offset: 0, length }, [0]);
    expectBytes('the range', await client.read(0, length), pattern(length, 4));
    await subject.stillTransmits(client);
  },
};
