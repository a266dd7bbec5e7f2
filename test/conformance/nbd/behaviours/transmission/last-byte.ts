import { NBD_CMD_READ, NBD_CMD_WRITE } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'an export can be used up to its last byte, and not one byte more',
  section: 'NBD_CMD_READ',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  run: async (subject, style) => {
    const client = await subject.open(style);
    const { unit, export: info } = subject.facts;
    const offset = Number(info.sizeBytes) - unit;
    if (subject.lacks('writable') === null) {
      await subject.answers(client, { command: NBD_CMD_WRITE, offset, payload: pattern(unit, 3) }, [0]);
      const { data } = await subject.answers(client, { command: NBD_CMD_READ, offset, length: unit }, [0]);
      expectBytes('the last bytes', data, pattern(unit, 3));
    } else {
      await subject.answers(client, { command: NBD_CMD_READ, offset, length: unit }, [0]);
    }
    await subject.stillTransmits(client);
  },
};
