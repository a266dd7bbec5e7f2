import { NBD_CMD_DISC, NBD_CMD_WRITE } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, expectOneOf, pattern } from '../../suite/check.ts';
import { errorName } from '../../suite/names.ts';
import { headerBytes } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'WRITEs, DISC and the end of the stream at once: all WRITEs are carried out before the connection is closed',
  section: 'NBD_CMD_DISC',
  checklist: '1.4',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const { unit } = subject.facts;
    const client = await subject.open(style);
    const seed = STYLES.indexOf(style) + 10;
    const settled = Promise.allSettled(Array.from({ length: 8 }, (_, index) => client.request({ command: NBD_CMD_WRITE, offset: index * unit, payload: pattern(unit, seed + index) })));
    client.send(headerBytes(style, { command: NBD_CMD_DISC, cookie: Buffer.alloc(8) }));
    client.endInput();
    await client.expectEnd();
    const replies = await settled;
    subject.remark = `${replies.filter(({ status }) => status === 'fulfilled').length} of 8 answered`;
    for (const reply of replies) if (reply.status === 'fulfilled') expectOneOf('the answer to a WRITE', reply.value.error, [0], errorName);
    const after = await subject.open();
    for (let index = 0; index < 8; index += 1) expectBytes(`write ${index}`, await after.read(index * unit, unit), pattern(unit, seed + index));
    await subject.stillTransmits(after);
  },
};
