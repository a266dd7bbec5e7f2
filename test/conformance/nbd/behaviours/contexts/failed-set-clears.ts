import { NBD_CMD_BLOCK_STATUS, NBD_EINVAL, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID } from '../../../../../src/protocol/constants.ts';
import { metaContextBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { UNKNOWN_NAME } from '../../suite/facts.ts';

export const behaviour: Behaviour = {
  title: 'a SET_META_CONTEXT that fails clears what was selected: a query past the end, an unknown export',
  section: 'NBD_OPT_SET_META_CONTEXT',
  checklist: '1.2',
  level: 'MUST',
  styles: ['structured', 'extended'],
  needs: ['base:allocation'],
  run: async (subject, style) => {
    const { exportName } = subject.target;
    const pastEnd = metaContextBytes(exportName, ['base:allocation']);
    pastEnd.writeUInt32BE(1000, pastEnd.length - 'base:allocation'.length - 4);
    const failures: [Buffer, readonly number[]][] = [[pastEnd, [NBD_REP_ERR_INVALID]]];
    if (!subject.facts.takesAnyName) failures.push([metaContextBytes(UNKNOWN_NAME, ['base:allocation']), subject.refusalsOfUnknown]);
    for (const [data, refusals] of failures) {
      const client = await subject.agreed(style);
      await client.contexts(NBD_OPT_SET_META_CONTEXT, exportName, ['base:allocation']);
      await subject.refuses(client, NBD_OPT_SET_META_CONTEXT, data, refusals);
      client.reader.contexts = [];
      await client.go(exportName);
      await subject.answers(client, { command: NBD_CMD_BLOCK_STATUS, offset: 0, length: subject.facts.unit }, [NBD_EINVAL]);
      await subject.stillTransmits(client);
    }
  },
};
