/** `basalt doctor` */
import type { Argv, Options } from 'yargs';
import { EXIT, type CliContext } from '../context.ts';
import { checkData, checkSettings } from '../doctor/data-checks.ts';
import { type Finding, FINDING_STATES } from '../doctor/findings.ts';
import { checkLimits, checkMachine } from '../doctor/machine-checks.ts';
import { addSettingFlags, DATA_FLAG, JSON_FLAG, readSettings, SETTINGS_FLAGS, type SettingsArguments } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';

export const doctorFlags = { data: DATA_FLAG, ...SETTINGS_FLAGS, json: JSON_FLAG } as const satisfies Record<string, Options>;

const SIGNS = { ok: 'ok', warning: 'warning', failure: 'FAILURE' } as const;

async function examine(context: CliContext, directory: string, parsed: SettingsArguments): Promise<readonly Finding[]> {
  const host = await context.openHost();
  const { findings, loaded } = await checkSettings(host, () => readSettings(context, parsed));
  return [...(await checkMachine(host)), ...findings, ...(loaded === null ? [] : await checkLimits(host, loaded.settings)), ...(await checkData(host, directory))];
}

function countOf(findings: readonly Finding[], state: Finding['state']): number {
  return findings.filter((finding) => finding.state === state).length;
}

function describeFindings(findings: readonly Finding[]): string {
  const rows = findings.flatMap(({ check, state, message, mend }) => [
    [SIGNS[state], check, message],
    ...(mend === null ? [] : [['', '', `mend: ${mend}`]]),
  ]);
  return `${formatTable(rows)}${FINDING_STATES.map((state) => `${countOf(findings, state)} ${state}`).join(', ')}\n`;
}

/** `exit` tells the exit code of a verb that ends well but not with 0: something has to be mended. */
export function addDoctor(program: Argv, context: CliContext, exit: (code: number) => void): Argv {
  return program.command(
    'doctor',
    'check the machine, the folder of the volumes and the settings, and say how to mend what is wrong',
    (verb) =>
      addSettingFlags(verb.options(doctorFlags))
        .example('$0 doctor', 'Node, kernel, packages, limits, clock, ./volumes and its disk. Exits with 1 if something fails')
        .example('$0 doctor --data /srv/basalt --config basalt.toml --json', 'what serve would be given, for a script'),
    async (parsed) => {
      const findings = await examine(context, parsed.data, parsed);
      const isSound = countOf(findings, 'failure') === 0;
      context.terminal.out(parsed.json ? formatJson({ ok: isSound, findings }) : describeFindings(findings));
      if (!isSound) exit(EXIT.failure);
    },
  );
}
