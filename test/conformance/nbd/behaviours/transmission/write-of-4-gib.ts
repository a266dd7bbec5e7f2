import { NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';
import { headerBytes } from '../../suite/steps.ts';

const PATIENCE_MS = 1000;

export const behaviour: Behaviour = {
  title: 'a WRITE that announces 4 GiB ends the connection, at the latest when the client leaves, and nothing of it is applied',
  section: 'NBD_CMD_WRITE',
  checklist: '1.4',
  level: 'MAY',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const before = await subject.open();
    await before.write(0, pattern(65_536, 3));
    await before.close();
    const client = await subject.open(style);
    const fields = { command: NBD_CMD_WRITE, flags: style === 'extended' ? NBD_CMD_FLAG_PAYLOAD_LEN : 0, cookie: Buffer.alloc(8, 1), length: 0xffffffff };
    client.send(headerBytes(style, fields));
    client.send(Buffer.alloc(65_536, 0xee));
    const timer = setTimeout(() => client.endInput(), PATIENCE_MS);
    await client.untilEnd();
    clearTimeout(timer);
    const after = await subject.open();
    expectBytes('the range', await after.read(0, 65_536), pattern(65_536, 3));
    await subject.stillTransmits(after);
  },
};
