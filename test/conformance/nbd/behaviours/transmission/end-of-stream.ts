import { NBD_CMD_READ, NBD_ESHUTDOWN } from '../../../../../src/protocol/constants.ts';
import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { errorName } from '../../suite/names.ts';
import { isDisconnection } from '../../suite/steps.ts';

export const behaviour: Behaviour = {
  title: 'behind the end of the stream, requests are answered whole or not at all, and the connection is closed',
  section: 'Terminating the transmission phase',
  checklist: '1.5',
  level: 'MAY',
  styles: STYLES,
  run: async (subject, style) => {
    const client = await subject.open(style);
    const settled = Promise.allSettled(Array.from({ length: 16 }, () => client.request({ command: NBD_CMD_READ, offset: 0, length: subject.facts.unit })));
    client.endInput();
    await client.untilEnd();
    const replies = await settled;
    for (const reply of replies) {
      if (reply.status === 'fulfilled') expectOneOf('an answer', reply.value.error, [0, NBD_ESHUTDOWN], errorName);
      else if (!isDisconnection(reply.reason)) throw reply.reason;
    }
    subject.remark = `${replies.filter(({ status }) => status === 'fulfilled').length} of 16 answered`;
  },
};
