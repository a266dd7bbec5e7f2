/** IP addresses and ranges of them (CIDR). IPv4 addresses that come as IPv6 ones (::ffff:10.0.0.1) are IPv4 addresses. */

/** All addresses whose first `prefixBits` bits are those of `bytes`, which are 4 or 16. */
export interface AddressRange {
  readonly bytes: Uint8Array;
  readonly prefixBits: number;
}

/** The 4 or 16 bytes of an IP address as the system and people write it; null if it is none. A zone (`%eth0`) is left out. */
export function parseAddress(text: string): Uint8Array | null {
  const bytes = text.includes(':') ? parseIpv6(text.replace(/%.*$/, '')) : parseIpv4(text);
  if (bytes === null || bytes.length === 4 || !isMapped(bytes)) return bytes;
  return bytes.slice(12);
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
}

function parseIpv4(text: string): Uint8Array | null {
  const parts = text.split('.');
  // No leading zeroes: some read them as octal.
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)) return null;
  return Uint8Array.from(parts, Number);
}

function parseIpv6(text: string): Uint8Array | null {
  const sides = text.split('::');
  if (sides.length > 2) return null;
  const [head, tail] = sides.map((side, index) => groupsOf(side, index === sides.length - 1));
  if (head === null || tail === null) return null;
  if (tail === undefined) return head.length === 8 ? bytesOf(head) : null;
  const missing = 8 - head.length - tail.length;
  return missing < 1 ? null : bytesOf([...head, ...Array.from({ length: missing }, () => 0), ...tail]);
}

/** The groups of 16 bits of a part without `::`; the last two of the address may be written as an IPv4 address. */
function groupsOf(text: string, isLast: boolean): number[] | null {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    const ipv4 = isLast && index === parts.length - 1 && part.includes('.') ? parseIpv4(part) : null;
    if (ipv4 !== null) groups.push(ipv4[0] * 256 + ipv4[1], ipv4[2] * 256 + ipv4[3]);
    else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else return null;
  }
  return groups;
}

function bytesOf(groups: readonly number[]): Uint8Array | null {
  return groups.length === 8 ? Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff])) : null;
}

/** A range from `10.0.0.0/8`, `fd00::/8` or a single address; null if it is none, or if it has bits behind its prefix. */
export function parseRange(text: string): AddressRange | null {
  const [address, prefix, ...rest] = text.split('/');
  const bytes = parseAddress(address);
  if (bytes === null || rest.length > 0) return null;
  const bits = bytes.length * 8;
  if (prefix === undefined) return { bytes, prefixBits: bits };
  if (!/^\d{1,3}$/.test(prefix)) return null;
  // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
  const prefixBits = Number(prefix) - (address.includes(':') && bits === 32 ? 96 : 0);
  if (prefixBits < 0 || prefixBits > bits) return null;
  return samePrefix(bytes, new Uint8Array(bytes.length), { from: prefixBits, to: bits }) ? { bytes, prefixBits } : null;
}

export function rangeIncludes({ bytes, prefixBits }: AddressRange, address: Uint8Array): boolean {
  return bytes.length === address.length && samePrefix(bytes, address, { from: 0, to: prefixBits });
}

function samePrefix(first: Uint8Array, second: Uint8Array, { from, to }: { readonly from: number; readonly to: number }): boolean {
  for (let bit = from; bit < to; bit += 1) {
    if ((((first[bit >> 3] ^ second[bit >> 3]) >> (7 - (bit & 7))) & 1) !== 0) return false;
  }
  return true;
}
