import { NBD_CMD_DISC, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_WRITE } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';
import { headerBytes } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'requests behind a DISC are neither carried out nor answered',
  section: 'NBD_CMD_DISC',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const { unit } = subject.facts;
    const client = await subject.open(style);
    await client.write(0, pattern(unit, 1));
    const flags = style === 'extended' ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
    const write = headerBytes(style, { command: NBD_CMD_WRITE, flags, cookie: Buffer.alloc(8, 2), offset: 0, payload: pattern(unit, 2) });
    client.send(Buffer.concat([headerBytes(style, { command: NBD_CMD_DISC, cookie: Buffer.alloc(8, 1) }), write]));
    await client.expectEnd();
    const after = await subject.open();
    expectBytes('the range', await after.read(0, unit), pattern(unit, 1));
    await subject.stillTransmits(after);
  },
};
