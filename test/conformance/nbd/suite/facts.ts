/** What a server can do, asked once before its behaviours are checked. */
import { NBD_OPT_INFO, NBD_OPT_LIST, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_STARTTLS, NBD_REP_ACK, NBD_REP_ERR_TLS_REQD } from '../../../../src/protocol/constants.ts';
import { type ExportInfo, infoRequestBytes, optionBytes } from '../../../support/nbd-bytes.ts';
import { NbdClient, NbdOptionError } from '../../../support/nbd-client.ts';
import type { Target } from './target.ts';

/** No server has it unless it takes any name at all. */
export const UNKNOWN_NAME = 'basalt-conformance-no-such-export';

export interface Facts {
  readonly export: ExportInfo;
  readonly readOnly: boolean;
  readonly structured: boolean;
  readonly extended: boolean;
  readonly contexts: readonly string[];
  readonly lists: boolean;
  /** The server has an export of whatever name is asked for. */
  readonly takesAnyName: boolean;
  /** TLS can be had, but the URI is not one of it. */
  readonly hasUnusedTls: boolean;
  /** Nothing is answered before TLS. */
  readonly forcesTls: boolean;
  /** A range that is aligned for this server and at least 4096 bytes long. */
  readonly unit: number;
}

/** Whether the option is agreed to; the server must say no in the way of the protocol. */
async function agrees(step: () => Promise<unknown>): Promise<boolean> {
  try {
    await step();
    return true;
  } catch (error) {
    if (error instanceof NbdOptionError) return false;
    throw error;
  }
}

/** The first answer to an option, on a connection of its own. */
async function answerTo(target: Target, option: number, data: Uint8Array): Promise<number> {
  const client = NbdClient.over(await target.connect());
  await client.greet();
  client.send(optionBytes(option, data));
  const { type } = await client.takeOptionReply(option);
  client.socket.destroy();
  return type;
}

async function learnTls(target: Target): Promise<Pick<Facts, 'hasUnusedTls' | 'forcesTls'>> {
  // A server of one connection is asked nothing beside it.
  if (!target.severalConnections) return { hasUnusedTls: false, forcesTls: false };
  if (target.tls === null) return { hasUnusedTls: (await answerTo(target, NBD_OPT_STARTTLS, Buffer.alloc(0))) === NBD_REP_ACK, forcesTls: false };
  return { hasUnusedTls: false, forcesTls: (await answerTo(target, NBD_OPT_INFO, infoRequestBytes(target.exportName))) === NBD_REP_ERR_TLS_REQD };
}

export async function learnFacts(target: Target): Promise<Facts> {
  const tls = await learnTls(target);
  const client = NbdClient.over(await target.connect());
  await client.greet();
  if (target.tls !== null) await client.startTls(target.tls);
  const exportInfo = await client.info(target.exportName, [3]);
  const structured = await agrees(() => client.agree('structured'));
  let contexts: string[] = [];
  if (structured) {
    await agrees(async () => {
      contexts = (await client.contexts(NBD_OPT_LIST_META_CONTEXT, target.exportName, [])).map(({ name }) => name);
    });
  }
  const facts = {
    export: exportInfo,
    readOnly: (exportInfo.transmissionFlags & 2) !== 0,
    structured,
    extended: await agrees(() => client.agree('extended')),
    contexts,
    lists: await agrees(() => client.option(NBD_OPT_LIST)),
    takesAnyName: await agrees(() => client.info(UNKNOWN_NAME)),
    ...tls,
    unit: Math.max(4096, exportInfo.blockSizes?.minimum ?? 1),
  };
  await client.abort();
  return facts;
}
