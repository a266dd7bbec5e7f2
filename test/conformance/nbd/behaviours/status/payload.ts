import { NBD_CMD_BLOCK_STATUS, NBD_FLAG_BLOCK_STATUS_PAYLOAD } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectEqual, skip } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'BLOCK_STATUS with a payload tells the contexts that it names, and no others',
  section: 'NBD_FLAG_BLOCK_STATUS_PAYLOAD [ext]',
  checklist: '1.4',
  level: 'MUST',
  styles: ['extended'],
  needs: ['base:allocation'],
  run: async (subject, style) => {
    const client = await subject.open(style, { contexts: [...subject.facts.contexts] });
    if (((client.export?.transmissionFlags ?? 0) & NBD_FLAG_BLOCK_STATUS_PAYLOAD) === 0) skip('does not advertise BLOCK_STATUS_PAYLOAD');
    const length = 16 * subject.facts.unit;
    const ids = client.reader.contexts.map(({ id }) => id);
    for (const asked of [ids, ...ids.map((id) => [id])]) {
      const { statuses } = await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset: 0, asks: { length, ids: asked } }, [0]);
      expectEqual('the contexts told', ids.filter((id) => statuses.has(id)).join(' '), asked.join(' '));
      expectEqual('their number', statuses.size, asked.length);
    }
    await subject.stillTransmits(client);
  },
};
