import { NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { metaContextBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';

const NAME = 'base:allocation';

export const behaviour: Behaviour = {
  title: 'LIST_ and SET_META_CONTEXT whose strings reach past the end of their data are refused, and the handshake goes on',
  section: 'NBD_OPT_LIST_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  needs: ['base:allocation'],
  run: async (subject) => {
    const client = await subject.agreed('structured');
    const whole = metaContextBytes(subject.target.exportName, [NAME]);
    const longName = Buffer.from(whole);
    longName.writeUInt32BE(whole.length, 0);
    const malformed = [...[0, 3, 4, 7].map((length) => whole.subarray(0, length)), whole.subarray(0, -1), longName];
    for (const option of [NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT]) {
      for (const data of malformed) await subject.refuses(client, option, data, [NBD_REP_ERR_INVALID]);
    }
    await subject.isInSync(client);
  },
};
