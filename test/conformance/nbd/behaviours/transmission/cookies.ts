import { NBD_CMD_READ } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, expectEqual, pattern } from '../../suite/check.ts';

const COOKIES = ['0000000000000000', 'ffffffffffffffff', '0020000000000001', '8000000000000000', '7fffffffffffffff', '0000000000000001', '0100000000000000'];

export const behaviour: Behaviour = {
  title: 'a cookie comes back bit for bit, whatever it is, and each reply is that of its request',
  section: 'Transmission phase: request message',
  checklist: '1.5',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const { unit } = subject.facts;
    await Promise.all(COOKIES.map((_, index) => client.write(index * unit, pattern(unit, index))));
    const replies = await Promise.all(COOKIES.map((cookie, index) => client.request({ command: NBD_CMD_READ, cookie: Buffer.from(cookie, 'hex'), offset: index * unit, length: unit })));
    for (const [index, { data, cookie }] of replies.entries()) {
      expectEqual('the cookie', cookie, COOKIES[index]);
      expectBytes(`the data for ${cookie}`, data, pattern(unit, index));
    }
    await subject.stillTransmits(client);
  },
};
