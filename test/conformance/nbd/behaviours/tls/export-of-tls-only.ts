import {
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
} from '../../../../../src/protocol/constants.ts';
import { infoRequestBytes, optionBytes } from '../../../../support/nbd-bytes.ts';
import type { Behaviour } from '../../suite/behaviour.ts';
import { UNKNOWN_NAME } from '../../suite/facts.ts';

export const behaviour: Behaviour = {
  title: 'an export of TLS only is refused with TLS_REQD before TLS, by EXPORT_NAME with the end, and nothing else is; in TLS it is there',
  section: 'SELECTIVETLS mode',
  checklist: '1.6',
  level: 'MUST',
  needs: ['tls', 'an export of TLS only'],
  run: async (subject) => {
    const name = subject.target.tlsOnlyExport ?? '';
    const old = await subject.greeted();
    old.send(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from(name)));
    await old.expectEnd();
    const client = await subject.greeted();
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) {
      await subject.refuses(client, option, infoRequestBytes(name), [NBD_REP_ERR_TLS_REQD]);
      await subject.refuses(client, option, infoRequestBytes(UNKNOWN_NAME), [NBD_REP_ERR_UNKNOWN, NBD_REP_ERR_TLS_REQD]);
      await subject.refuses(client, option, Buffer.alloc(0), [NBD_REP_ERR_INVALID]);
    }
    await subject.refuses(client, 0x7fff0000, Buffer.alloc(0), [NBD_REP_ERR_UNSUP]);
    await client.list();
    await client.info(subject.target.exportName);
    await client.startTls(subject.target.tls ?? {});
    await client.go(name);
    await subject.stillTransmits(client);
  },
};
