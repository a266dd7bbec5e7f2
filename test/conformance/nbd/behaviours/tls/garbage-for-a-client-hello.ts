import { NBD_OPT_STARTTLS, NBD_REP_ACK } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

const GARBAGE = [Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(5000, 0xa5), Buffer.concat([Buffer.from('160301ffff', 'hex'), Buffer.alloc(65_535)])];

export const behaviour: Behaviour = {
  title: 'garbage where TLS should begin ends the connection',
  section: 'NBD_OPT_STARTTLS',
  checklist: '1.6',
  level: 'MUST',
  needs: ['tls'],
  run: async (subject) => {
    for (const bytes of GARBAGE) {
      const client = await subject.greeted();
      client.send(optionBytes(NBD_OPT_STARTTLS));
      expectOneOf('the answer to STARTTLS', (await client.takeOptionReply(NBD_OPT_STARTTLS)).type, [NBD_REP_ACK], replyName);
      client.send(bytes);
      client.endInput();
      await client.untilEnd();
    }
  },
};
