import { NBD_OPT_LIST } from '../../../../../src/protocol/constants.ts';
import { optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { must, skip } from '../../suite/check.ts';

const GRACE_MS = 10_000;

export const behaviour: Behaviour = {
  title: 'a client that stalls in the handshake holds nobody up, and is dropped in time',
  section: 'Newstyle negotiation',
  checklist: '1.2',
  level: 'MAY',
  needs: ['several connections'],
  run: async (subject) => {
    const began = performance.now();
    const client = await subject.negotiating();
    client.send(optionBytes(NBD_OPT_LIST).subarray(0, 10));
    await subject.serves();
    const limitMs = subject.target.handshakeLimitMs;
    if (limitMs === null) skip('others are served; no time limit is known (--handshake-limit)');
    await client.expectEnd();
    const tookMs = performance.now() - began;
    must(tookMs > limitMs / 2 && tookMs < limitMs + GRACE_MS, 'the time until it was dropped', { expected: `about ${limitMs} ms`, got: `${Math.round(tookMs)} ms` });
  },
};
