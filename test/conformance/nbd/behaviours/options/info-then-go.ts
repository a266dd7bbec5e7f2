import { type Behaviour, STYLES } from '../../suite/behaviour.ts';
import { expectEqual } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'GO tells what INFO has told',
  section: 'NBD_OPT_INFO and NBD_OPT_GO',
  checklist: '1.2',
  level: 'SHOULD',
  styles: STYLES,
  run: async (subject, style) => {
    const client = await subject.agreed(style);
    const { exportName } = subject.target;
    const told = [await client.info(exportName, [0, 1, 2, 3]), await client.go(exportName, [0, 1, 2, 3])];
    const [before, after] = told.map((info) => JSON.stringify({ ...info, sizeBytes: String(info.sizeBytes) }));
    expectEqual('what GO tells', after, before);
    await subject.stillTransmits(client);
  },
};
