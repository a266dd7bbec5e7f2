import { NBD_CMD_CACHE, NBD_CMD_FLUSH, NBD_CMD_READ } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectBytes, expectOneOf, pattern } from '../../suite/check.ts';
import { errorName } from '../../suite/names.ts';
import { advertised } from '../../suite/steps.ts';

const REQUESTS = 300;

export const behaviour: Behaviour = {
  title: '300 requests of all kinds at once are each answered, in any order, with what is theirs',
  section: 'Ordering of messages and writes',
  checklist: '1.5',
  level: 'MUST',
  styles: STYLES,
  needs: ['writable'],
  run: async (subject, style) => {
    const client = await subject.open(style);
    const { unit } = subject.facts;
    const places = 64;
    await client.write(0, Buffer.concat(Array.from({ length: places }, (_, index) => pattern(unit, index))));
    const others = advertised(subject, [NBD_CMD_FLUSH, NBD_CMD_CACHE]);
    const replies = await Promise.all(
      Array.from({ length: REQUESTS }, (_, index) => {
        const other = others[index % 7];
        const command = other ?? NBD_CMD_READ;
        return client.request({ command, offset: command === NBD_CMD_FLUSH ? 0 : (index % places) * unit, length: command === NBD_CMD_FLUSH ? 0 : unit });
      }),
    );
    for (const [index, { error, data }] of replies.entries()) {
      expectOneOf(`the answer to request ${index}`, error, [0], errorName);
      if (others[index % 7] === undefined) expectBytes(`the data of request ${index}`, data, pattern(unit, index % places));
    }
    await subject.stillTransmits(client);
  },
};
