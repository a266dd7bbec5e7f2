/** The names that a certificate vouches for, as Node spells them. */
import type { PeerCertificate } from 'node:tls';

/**
 * One entry of `subjectaltname`: a value that is not plain comes as a JSON text, and such a text may hold what looks like further
 * entries. So the list is read entry by entry, never searched.
 */
const ENTRY = /(?<type>[A-Za-z][A-Za-z ]*):(?:(?<quoted>"(?:[^"\\]|\\.)*")|(?<plain>[^",]*))(?:, |$)/y;

/** The DNS names of a `subjectaltname`. A list that is not understood to its end has none. */
export function dnsNamesOf(list: string): string[] {
  const names: string[] = [];
  ENTRY.lastIndex = 0;
  while (ENTRY.lastIndex < list.length) {
    const groups = ENTRY.exec(list)?.groups;
    if (groups === undefined) return [];
    // A DNS name that needs quotes is none.
    if (groups.type === 'DNS' && groups.quoted === undefined && groups.plain !== '') names.push(groups.plain);
  }
  return names;
}

/** The common name and the DNS names of a verified certificate. */
export function namesOf(certificate: Pick<PeerCertificate, 'subject' | 'subjectaltname'>): string[] {
  // Node's types say text; a subject with several common names has a list of them.
  const common: unknown = certificate.subject.CN;
  const names: unknown[] = Array.isArray(common) ? common : [common];
  return [...names.filter((name): name is string => typeof name === 'string' && name !== ''), ...dnsNamesOf(certificate.subjectaltname ?? '')];
}
