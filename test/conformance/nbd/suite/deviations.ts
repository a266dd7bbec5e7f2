/** What other servers are known to do otherwise than the protocol says. A run fails where a line no longer holds: the table is checked, too. */

export interface KnownDeviation {
  /** A behaviour, or one of its styles: `transmission/past-the-end [structured]`. */
  readonly behaviour: string;
  /** Of the protocol document. */
  readonly section: string;
  readonly what: string;
  /** With TLS only. */
  readonly inTls?: true;
  /** Not every time, or not on every file system. */
  readonly sometimes?: true;
}

export const KNOWN_SERVERS = ['nbdkit', 'qemu-nbd'] as const;
export type KnownServer = (typeof KNOWN_SERVERS)[number];

/** nbdkit 1.32.5 with its plugin memory, and qemu-nbd 7.2 of a raw file, as Debian 12 has them; extended headers with qemu-nbd 10. */
export const DEVIATIONS: Readonly<Record<KnownServer, readonly KnownDeviation[]>> = {
  nbdkit: [
    { behaviour: 'contexts/trailing-bytes', section: 'NBD_OPT_LIST_META_CONTEXT', what: 'takes bytes behind the last query' },
    { behaviour: 'contexts/set-twice', section: 'NBD_OPT_SET_META_CONTEXT', what: 'selects a context as often as it is named, with one id' },
    { behaviour: 'transmission/errors-are-structured', section: 'Structured replies', what: 'only READ and BLOCK_STATUS fail with a structured reply (a SHOULD)' },
    { behaviour: 'transmission/no-hole', section: 'NBD_CMD_FLAG_NO_HOLE', what: 'the plugin frees what is zeroed, NO_HOLE or not' },
    {
      behaviour: 'transmission/disconnect-behind-writes',
      section: 'NBD_CMD_DISC',
      what: 'may answer ESHUTDOWN to requests that came before the DISC',
      sometimes: true,
    },
    {
      behaviour: 'transmission/reset-among-replies',
      section: 'Terminating the transmission phase',
      what: 'ends with a failed assertion in raw_send_socket when a client breaks down while several threads answer it',
      sometimes: true,
    },
    { behaviour: 'tls/old-version', section: 'TLS versions', what: 'takes TLS 1.1', inTls: true },
  ],
  'qemu-nbd': [
    { behaviour: 'contexts/trailing-bytes', section: 'NBD_OPT_LIST_META_CONTEXT', what: 'takes bytes behind the last query' },
    { behaviour: 'transmission/past-the-end', section: 'Error values', what: 'a WRITE or WRITE_ZEROES past the end fails with EINVAL, not ENOSPC (a SHOULD)' },
    { behaviour: 'transmission/read-only', section: 'Error values', what: 'a WRITE to a read-only export fails with EINVAL, not EPERM (a SHOULD)' },
    { behaviour: 'transmission/wrong-magic', section: 'Transmission phase: request message', what: 'answers EINVAL to what has no magic number, and goes on' },
    { behaviour: 'transmission/no-hole', section: 'NBD_CMD_FLAG_NO_HOLE', what: 'tells what the file system tells of the file, where allocated zeroes may be a hole', sometimes: true },
    { behaviour: 'options/info-then-go [extended]', section: 'NBD_OPT_INFO and NBD_OPT_GO', what: 'INFO says BLOCK_STATUS_PAYLOAD without contexts, GO does not (QEMU 10)' },
    { behaviour: 'tls/old-version', section: 'TLS versions', what: 'takes TLS 1.1', inTls: true },
    { behaviour: 'tls/abort-before', section: 'FORCEDTLS mode', what: 'refuses ABORT before TLS', inTls: true },
    { behaviour: 'tls/starttls-with-data', section: 'NBD_OPT_STARTTLS', what: 'closes the connection after it has refused', inTls: true },
  ],
};
