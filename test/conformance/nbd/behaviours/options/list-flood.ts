import { NBD_OPT_LIST, NBD_REP_ACK, NBD_REP_ERR_INVALID, NBD_REP_ERR_POLICY, NBD_REP_ERR_TOO_BIG, NBD_REP_SERVER } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';
import { isDisconnection } from '../../suite/steps.ts';

const LISTS = 5000;
const REFUSALS = [NBD_REP_ERR_INVALID, NBD_REP_ERR_POLICY, NBD_REP_ERR_TOO_BIG];

export const behaviour: Behaviour = {
  title: '5000 LISTs at once are all answered, or end the connection of who sent them',
  section: 'NBD_OPT_LIST',
  checklist: '1.2',
  level: 'MAY',
  needs: ['list'],
  run: async (subject) => {
    const client = await subject.negotiating();
    client.send(Buffer.concat(Array.from({ length: LISTS }, () => optionBytes(NBD_OPT_LIST))));
    let answers = 0;
    try {
      while (answers < LISTS) {
        const { type } = await client.takeOptionReply(NBD_OPT_LIST);
        expectOneOf('a reply to LIST', type, [NBD_REP_ACK, NBD_REP_SERVER, ...REFUSALS], replyName);
        if (type !== NBD_REP_SERVER) answers += 1;
      }
      await client.abort();
    } catch (error) {
      if (!isDisconnection(error)) throw error;
      await client.untilEnd();
    }
    subject.remark = answers === LISTS ? 'all answered' : 'the connection ended';
  },
};
