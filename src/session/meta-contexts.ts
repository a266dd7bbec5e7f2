/**
 * The metadata contexts that there are (NBD document, "Metadata querying"): `base:allocation`, which the document defines;
 * `basalt:state`, the states of blocks for tools that look inside (README, "What of NBD is spoken"); and `qemu:allocation-depth`, for QEMU and
 * those who know its contexts (QEMU's docs/interop/nbd.txt). A volume has no layers and nothing that tracks changes for backups,
 * so that a depth is 0 or 1 and there is no `qemu:dirty-bitmap:NAME`.
 */
import { EXTENT, type Extent, type ExtentDetail } from '../base/extent-list.ts';
import { NBD_STATE_HOLE, NBD_STATE_ZERO } from '../protocol/constants.ts';

/** Status bits of `basalt:state`. */
export const BASALT_STATE = { HOT: 1 << 0, PENDING: 1 << 1, PERSISTED: 1 << 2, CACHED: 1 << 3, EMPTY: 1 << 4, PROVISIONED: 1 << 5 } as const;

export interface MetaContext {
  /** Names the context in replies to BLOCK_STATUS; the same in every session. */
  readonly id: number;
  readonly name: string;
  /** What must be told apart for it. */
  readonly detail: ExtentDetail;
  statusOf(extent: Extent): number;
}

function allocationOf(extent: Extent): number {
  if (extent === EXTENT.EMPTY) return NBD_STATE_HOLE | NBD_STATE_ZERO;
  return extent === EXTENT.PROVISIONED ? NBD_STATE_ZERO : 0;
}

/** 0: not there; 1: in the layer that is looked at, the only one. */
function depthOf(extent: Extent): number {
  return extent === EXTENT.EMPTY ? 0 : 1;
}

const STATES: Readonly<Record<Extent, number>> = {
  [EXTENT.EMPTY]: BASALT_STATE.EMPTY,
  [EXTENT.PROVISIONED]: BASALT_STATE.EMPTY | BASALT_STATE.PROVISIONED,
  [EXTENT.DATA]: 0,
  [EXTENT.HOT]: BASALT_STATE.HOT,
  [EXTENT.PENDING]: BASALT_STATE.PENDING,
  [EXTENT.PERSISTED]: BASALT_STATE.PERSISTED,
  [EXTENT.CACHED]: BASALT_STATE.CACHED,
};

export const META_CONTEXTS: readonly MetaContext[] = [
  { id: 1, name: 'base:allocation', detail: 'allocation', statusOf: allocationOf },
  { id: 2, name: 'basalt:state', detail: 'state', statusOf: (extent) => STATES[extent] },
  { id: 3, name: 'qemu:allocation-depth', detail: 'space', statusOf: depthOf },
];

/** More queries than this in one option are too many. */
export const MAX_QUERIES = 256;

/** What NBD_OPT_LIST_META_CONTEXT finds: all contexts without a query, those of a namespace with `namespace:`. */
export function listedContexts(queries: readonly string[]): MetaContext[] {
  if (queries.length === 0) return [...META_CONTEXTS];
  return META_CONTEXTS.filter(({ name }) => queries.includes(name) || queries.includes(name.slice(0, name.indexOf(':') + 1)));
}

/** What NBD_OPT_SET_META_CONTEXT selects: contexts that are named whole, each once. Everything else is ignored, as the document asks. */
export function selectedContexts(queries: readonly string[]): MetaContext[] {
  return META_CONTEXTS.filter(({ name }) => queries.includes(name));
}
