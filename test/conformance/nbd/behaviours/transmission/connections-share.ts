import { NBD_CMD_FLUSH } from '../../../../../src/protocol/constants.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { expectBytes, pattern } from '../../suite/check.ts';

export const behaviour: Behaviour = {
  title: 'what one connection has written another one reads, and a FLUSH covers both',
  section: 'NBD_FLAG_CAN_MULTI_CONN',
  checklist: '1.5',
  level: 'MUST',
  needs: ['several connections', 'multi-conn', 'flush', 'writable'],
  run: async (subject) => {
    const clients = await Promise.all([1, 2, 3, 4].map(() => subject.open()));
    const { unit } = subject.facts;
    for (let round = 0; round < 4; round += 1) {
      await Promise.all(clients.map((client, index) => client.write(index * unit, pattern(unit, 10 * round + index))));
      await subject.answers(clients[round], { command: NBD_CMD_FLUSH }, [0]);
      for (const [index, client] of clients.entries()) {
        const other = (index + 1 + round) % clients.length;
        expectBytes(`what connection ${other} has written`, await client.read(other * unit, unit), pattern(unit, 10 * round + other));
      }
    }
    for (const client of clients) await subject.stillTransmits(client);
  },
};
