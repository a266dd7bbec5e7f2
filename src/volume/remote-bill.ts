/** What a volume's bucket costs in a month: an estimate, by the prices of the settings and what was done since the volume was opened. */
import type { RemotePrices } from '../base/settings-types.ts';
import { GIB } from '../base/units.ts';
import type { RequestCounters } from '../store/remote-store.ts';
import type { RemoteBill } from './volume-info.ts';

const MONTH_MS = 30 * 24 * 3_600_000;
/** What was done in less time than this says nothing of a month. */
const LEAST_MS = 60_000;
const PER_REQUESTS = 1000;

/** `elapsedMs`: since the counters were zero. Removals are free everywhere. */
export function estimateBill({ pricePuts, priceGets, priceStored, priceReceived }: RemotePrices, counters: RequestCounters, storedBytes: number, elapsedMs: number): RemoteBill {
  const storage = (storedBytes / GIB) * priceStored;
  if (elapsedMs < LEAST_MS) return { storage, requests: null, transfer: null };
  const perMonth = MONTH_MS / elapsedMs;
  const requests = ((counters.puts + counters.lists) * pricePuts + counters.gets * priceGets) / PER_REQUESTS;
  return { storage, requests: requests * perMonth, transfer: (counters.receivedBytes / GIB) * priceReceived * perMonth };
}
