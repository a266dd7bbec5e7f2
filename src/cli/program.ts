/** The yargs program: verbs, help, and one place where errors become messages and exit codes. */
import yargs, { type Argv } from 'yargs';
import { EXIT, type CliContext } from './context.ts';
import { JSON_FLAG, settingFlagNames } from './flags.ts';
import { printError } from './output.ts';
import { usageError, type Usage } from './usage.ts';
import { addCheck, checkFlags } from './verbs/check.ts';
import { addCompression, compressionFlags } from './verbs/compression.ts';
import { addCreate, createFlags } from './verbs/create.ts';
import { addDelete, deleteFlags } from './verbs/delete.ts';
import { addDrain, drainFlags } from './verbs/drain.ts';
import { addDurability, durabilityFlags } from './verbs/durability.ts';
import { addExplain, explainFlags } from './verbs/explain.ts';
import { addList, listFlags } from './verbs/list.ts';
import { addOpenRemote, addTakeover, openRemoteFlags, takeoverFlags } from './verbs/open-remote.ts';
import { addPki, pkiFlags } from './verbs/pki.ts';
import { addRepair, repairFlags } from './verbs/repair.ts';
import { addScrub, scrubFlags } from './verbs/scrub.ts';
import { addServe, serveFlags } from './verbs/serve.ts';
import { addSettings, settingsFlags } from './verbs/settings.ts';
import { addShow, showFlags } from './verbs/show.ts';

function buildUsage(): Usage {
  const ofSettings = settingFlagNames();
  return {
    flagsOfVerb: {
      serve: [...Object.keys(serveFlags), ...ofSettings],
      create: Object.keys(createFlags),
      list: Object.keys(listFlags),
      show: Object.keys(showFlags),
      durability: Object.keys(durabilityFlags),
      compression: Object.keys(compressionFlags),
      drain: Object.keys(drainFlags),
      'open-remote': Object.keys(openRemoteFlags),
      takeover: Object.keys(takeoverFlags),
      check: Object.keys(checkFlags),
      explain: Object.keys(explainFlags),
      scrub: Object.keys(scrubFlags),
      repair: Object.keys(repairFlags),
      delete: Object.keys(deleteFlags),
      pki: Object.keys(pkiFlags),
      settings: [...Object.keys(settingsFlags), ...ofSettings],
    },
    argumentsOfVerb: { serve: '', create: 'NAME SIZE', list: '', show: 'NAME', durability: 'NAME MODE', compression: 'NAME METHOD', drain: 'NAME', 'open-remote': 'URL NAME', takeover: 'NAME', check: 'NAME', explain: 'NAME OFFSET', scrub: 'NAME', repair: 'NAME', delete: 'NAME', pki: 'DIRECTORY', settings: '' },
  };
}

function buildProgram(words: readonly string[], context: CliContext, version: string, exit: (code: number) => void): Argv {
  const program = yargs([...words])
    .scriptName('basalt')
    .usage('$0 VERB ...\n\nBlock volumes over NBD: a server in front of a crash-safe, log-structured volume engine.')
    .locale('en') // usage.ts reads the messages
    .exitProcess(false)
    .parserConfiguration({ 'dot-notation': false, 'camel-case-expansion': false, 'greedy-arrays': false })
    .strict()
    .demandCommand(1, 'a verb is missing: serve, create, list, show, durability, compression, drain, open-remote, takeover, check, explain, scrub, repair, delete, pki or settings (basalt --help says more)')
    .option('json', JSON_FLAG)
    .version(version)
    .help()
    .alias('help', 'h')
    .wrap(100)
    .example('$0 create demo 10G && $0 serve', 'make a volume and serve it on 127.0.0.1:10809')
    .epilogue('Every verb has its own --help. Exit codes: 0 done, 1 failed, 2 wrong usage.');
  addServe(program, context, exit);
  addCreate(program, context);
  addList(program, context);
  addShow(program, context);
  addDurability(program, context);
  addCompression(program, context);
  addDrain(program, context);
  addOpenRemote(program, context);
  addTakeover(program, context);
  addCheck(program, context, exit);
  addExplain(program, context);
  addScrub(program, context, exit);
  addRepair(program, context, exit);
  addDelete(program, context, exit);
  addPki(program, context);
  addSettings(program, context);
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
      throw error instanceof Error && error.name !== 'YError' ? error : usageError(message ?? String(error), words, buildUsage());
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
