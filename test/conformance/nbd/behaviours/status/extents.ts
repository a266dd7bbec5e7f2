import { NBD_CMD_BLOCK_STATUS } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { must } from '../../suite/check.ts';

const MIB = 1024 * 1024;

export const behaviour: Behaviour = {
  title: 'BLOCK_STATUS tells each context once, in extents from the offset on, neighbours merged, none beyond the export',
  section: 'NBD_REPLY_TYPE_BLOCK_STATUS',
  checklist: '1.4',
  level: 'MUST',
  styles: ['structured', 'extended'],
  needs: ['base:allocation'],
  run: async (subject, style) => {
    const client = await subject.open(style, { contexts: [...subject.facts.contexts] });
    const { unit, export: info } = subject.facts;
    const size = Number(info.sizeBytes);
    for (const [offset, length] of [[0, size], [0, unit], [unit, MIB], [size - unit, unit]] as const) {
      const { statuses } = await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset, length: Math.min(length, 0xffff_f000) }, [0]);
      for (const [id, extents] of statuses) {
        const sum = extents.reduce((total, extent) => total + extent.length, 0);
        must(offset + sum <= size, `the extents of context ${id}`, { expected: `none beyond ${size}`, got: `${offset}+${sum}` });
      }
    }
    await subject.stillTransmits(client);
  },
};
