import { NBD_OPT_GO } from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { skip } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'a name is taken byte for byte: in other cases, with a space or without its last letter it is another',
  section: 'String values',
  checklist: '1.2',
  level: 'MUST',
  needs: ['known names'],
  run: async (subject) => {
    const { exportName } = subject.target;
    if (exportName === '') skip('the URI names no export');
    const client = await subject.negotiating();
    const names = [exportName.toUpperCase(), `${exportName} `, ` ${exportName}`, `/${exportName}`, exportName.slice(0, -1)].filter((name) => name !== exportName && name !== '');
    for (const name of names) await subject.refuses(client, NBD_OPT_GO, infoRequestBytes(name), subject.refusalsOfUnknown);
    await subject.isInSync(client);
  },
};
