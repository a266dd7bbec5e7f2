import { NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';
import { headerBytes } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'a WRITE of which the last byte never comes is not applied, whether the client leaves or breaks down',
  section: 'NBD_CMD_WRITE',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const length = 64 * subject.facts.unit;
    const before = await subject.open();
    await before.write(0, pattern(length, 7));
    await before.close();
    for (const leave of ['end', 'cut'] as const) {
      const client = await subject.open(style);
      const fields = { command: NBD_CMD_WRITE, flags: style === 'extended' ? NBD_CMD_FLAG_PAYLOAD_LEN : 0, cookie: Buffer.alloc(8, 1), offset: 0, payload: Buffer.alloc(length, 0xee) };
      const bytes = headerBytes(style, fields);
      client.send(bytes.subarray(0, bytes.length - 1));
      if (leave === 'end') {
        client.endInput();
        await client.expectEnd();
      } else {
        await client.cut();
      }
    }
    const after = await subject.open();
    expectBytes('the range', await after.read(0, length), pattern(length, 7));
    await subject.stillTransmits(after);
  },
};
