import { NBD_OPT_STARTTLS, NBD_REP_ACK } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectOneOf, must, skip } from '../../suite/check.ts';
import { replyName } from '../../suite/names.ts';

const GRACE_MS = 10_000;

export const behaviour: Behaviour = {
  title: 'a client that says nothing after STARTTLS holds nobody up, and is dropped in time',
  section: 'NBD_OPT_STARTTLS',
  checklist: '1.6',
  level: 'MAY',
  needs: ['tls', 'several connections'],
  run: async (subject) => {
    const began = performance.now();
    const client = await subject.greeted();
    client.send(optionBytes(NBD_OPT_STARTTLS));
    expectOneOf('the answer to STARTTLS', (await client.takeOptionReply(NBD_OPT_STARTTLS)).type, [NBD_REP_ACK], replyName);
    await subject.serves();
    const limitMs = subject.target.handshakeLimitMs;
    if (limitMs === null) skip('others are served; no time limit is known (--handshake-limit)');
    await client.untilEnd();
    const tookMs = performance.now() - began;
    must(tookMs > limitMs / 2 && tookMs < limitMs + GRACE_MS, 'the time until it was dropped', { expected: `about ${limitMs} ms`, got: `${Math.round(tookMs)} ms` });
  },
};
