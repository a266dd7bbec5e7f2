/** What became of clients since the server began; the control API tells it. */
export interface ServerCounts {
  accepted: number;
  /** Closed at once: a table was full. */
  turnedAway: number;
  /** Dropped while they negotiated, for a newer one. */
  displaced: number;
  handshakeTimeouts: number;
  /** Exports that were not there, or not for who asked. */
  refused: number;
  /** TLS handshakes that came to a good end, and that did not. */
  secured: number;
  tlsFailed: number;
  /** Closed because they asked for nothing for too long. */
  idle: number;
}

export function newCounts(): ServerCounts {
  return { accepted: 0, turnedAway: 0, displaced: 0, handshakeTimeouts: 0, refused: 0, secured: 0, tlsFailed: 0, idle: 0 };
}
