/** The yargs program: verbs, help, and one place where errors become messages and exit codes. */
import yargs, { type Argv } from 'yargs';
import type { CommandWords } from './completion/words.ts';
import { EXIT, type CliContext } from './context.ts';
import { JSON_FLAG } from './flags.ts';
import { printError } from './output.ts';
import { usageError } from './usage.ts';
import { commandWords, listVerbs, usageOfVerbs, VERBS } from './verb-table.ts';

function buildProgram(words: readonly string[], context: CliContext, version: string, exit: (code: number) => void): Argv {
  const program = yargs([...words])
    .scriptName('basalt')
    .usage('$0 VERB ...\n\nBlock volumes over NBD: a server in front of a crash-safe, log-structured volume engine.')
    .locale('en') // usage.ts reads the messages
    .exitProcess(false)
    .parserConfiguration({ 'dot-notation': false, 'camel-case-expansion': false, 'greedy-arrays': false })
    .strict()
    .demandCommand(1, `a verb is missing: ${listVerbs()} (basalt --help says more)`)
    .option('json', JSON_FLAG)
    .version(version)
    .help()
    .alias('help', 'h')
    .wrap(100)
    .example('$0 create demo 10G && $0 serve', 'make a volume and serve it on 127.0.0.1:10809')
    .epilogue('Every verb has its own --help. Exit codes: 0 done, 1 failed, 2 wrong usage.');
  // A program of its own: this one is at work.
  const completed = async (): Promise<CommandWords> => commandWords(await buildProgram([], context, version, exit).wrap(null).getHelp());
  for (const verb of VERBS) verb.add(program, { context, exit, words: completed });
  return program;
}

/** Runs one command line (without `node` and the script); resolves with the exit code. Prints its own errors. */
export async function runCli(words: readonly string[], context: CliContext, version: string): Promise<number> {
  let exitCode: number = EXIT.ok;
  try {
    const program = buildProgram(words, context, version, (code) => {
      exitCode = code;
    });
    program.fail((message, error) => {
      throw error instanceof Error && error.name !== 'YError' ? error : usageError(message ?? String(error), words, usageOfVerbs());
    });
    let help = '';
    await program.parseAsync([...words], {}, (_error, _parsed, output) => {
      help = output;
    });
    if (help !== '') context.terminal.out(`${help}\n`);
  } catch (error) {
    return printError(context.terminal, error, words.includes('--json'));
  }
  return exitCode;
}
