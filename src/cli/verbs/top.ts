/** `basalt top` */
import type { Argv, Options } from 'yargs';
import { UsageError, type CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG } from '../flags.ts';
import { drawScreen } from '../top-screen.ts';
import { serverOf, statsFlags } from './stats.ts';

export const topFlags = { interval: statsFlags.interval, count: statsFlags.count, data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

const HOME = '\u001b[H';
const CLEAR_REST_OF_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';
const CLEAR_SCREEN = '\u001b[2J';

/** Without a terminal: plain pictures one below the other, of this size. */
const PLAIN = { columns: 120, rows: 1000 };

export function addTop(program: Argv, context: CliContext): Argv {
  return program.command(
    'top',
    'a live view of a running server on the terminal',
    (verb) =>
      verb
        .options(topFlags)
        .example('$0 top', 'requests, latencies, memory, once a second; Ctrl-C ends it')
        .example('$0 top --count 1 > now.txt', 'without a terminal: plain text'),
    async (parsed) => {
      if (parsed.json) throw new UsageError('top draws for people; basalt stats --json --watch says the same for machines', { flag: 'json' });
      const { terminal } = context;
      const server = await serverOf(context, parsed.data);
      const pictures = parsed.count ?? Number.POSITIVE_INFINITY;
      let before = await server.stats();
      if (terminal.size() !== null) terminal.out(CLEAR_SCREEN);
      for (let picture = 0; picture < pictures; picture += 1) {
        await context.sleep(parsed.interval * 1000);
        const now = await server.stats();
        // Nothing is hidden and no other screen is used, so that Ctrl-C leaves the terminal as it should be.
        const size = terminal.size();
        const lines = drawScreen(now, before, size ?? PLAIN);
        if (size === null) terminal.out(`${lines.join('\n')}\n\n`);
        else terminal.out(`${HOME}${lines.map((line) => `${line}${CLEAR_REST_OF_LINE}`).join('\r\n')}${CLEAR_BELOW}`);
        before = now;
      }
      if (terminal.size() !== null) terminal.out('\r\n');
    },
  );
}
