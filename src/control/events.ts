/** What happens, told to whoever listens at `/v1/events`: server-sent events, each a line of the log from level info on. */
import type { ServerResponse } from 'node:http';
import type { Logger } from '../env/env.ts';

/** Between two signs of life, for proxies and clients that give up on silence. */
const KEEP_ALIVE_MS = 15_000;
/** A client that does not take its events is not waited for: it hears of no more, and connects again. */
const UNTAKEN_BYTES_MAX = 1024 * 1024;

type Listener = (event: string, line: string) => void;

export class EventFeed {
  readonly #listeners = new Set<Listener>();
  /** Events so far: the last one's number. */
  #count = 0;

  get listenerCount(): number {
    return this.#listeners.size;
  }

  get count(): number {
    return this.#count;
  }

  /** `line` is JSON in one line. */
  publish(event: string, line: string): void {
    this.#count += 1;
    for (const listener of this.#listeners) listener(event, line);
  }

  /** Calls `listener` from now on; returns what ends that. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Logs to `logger`, and tells `feed`; `makeLogger` makes one that hands over JSON, a line each. */
export function tellingLogger(logger: Logger, feed: EventFeed, makeLogger: (write: (line: string) => void) => Logger): Logger {
  let event = '';
  const lines = makeLogger((line) => feed.publish(event, line.trimEnd()));
  return {
    log(level, name, fields): void {
      logger.log(level, name, fields);
      if (feed.listenerCount === 0) return;
      event = name;
      lines.log(level, name, fields);
    },
  };
}

/** Sends events until the client goes or `signal` ends it. */
export async function streamEvents(feed: EventFeed, response: ServerResponse, signal: AbortSignal): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.write(': basalt\n\n');
  const send = (text: string): void => {
    if (response.writableLength > UNTAKEN_BYTES_MAX) response.destroy();
    else response.write(text);
  };
  const end = feed.listen((event, line) => send(`id: ${feed.count}\nevent: ${event}\ndata: ${line}\n\n`));
  const alive = setInterval(() => send(': alive\n\n'), KEEP_ALIVE_MS);
  try {
    await new Promise<void>((resolve) => {
      if (signal.aborted || response.destroyed) resolve();
      signal.addEventListener('abort', () => resolve());
      response.once('close', resolve);
    });
  } finally {
    clearInterval(alive);
    end();
    response.end();
  }
}
