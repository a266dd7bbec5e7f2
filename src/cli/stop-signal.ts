/** SIGINT and SIGTERM: the first asks for a graceful stop, the second ends the process at once. */
import { constants } from 'node:os';

const STOP_SIGNALS = ['SIGINT', 'SIGTERM'] as const;
export type StopSignal = (typeof STOP_SIGNALS)[number];

export interface StopRequest {
  /** Resolves with the first signal. */
  readonly signal: Promise<StopSignal>;
  /** Stops listening; signals have their usual effect again. */
  dispose(): void;
}

/** Listens from now on. At the second signal the process exits with 128 + its number, as a shell reports a killed process. */
export function listenForStop(onSecond: (signal: StopSignal) => void): StopRequest {
  let isStopping = false;
  let resolveSignal: (signal: StopSignal) => void;
  const signal = new Promise<StopSignal>((resolve) => (resolveSignal = resolve));
  const listener = (name: NodeJS.Signals): void => {
    const stopSignal = STOP_SIGNALS.find((candidate) => candidate === name);
    if (stopSignal === undefined) return;
    if (isStopping) {
      onSecond(stopSignal);
      process.exit(128 + constants.signals[stopSignal]);
    }
    isStopping = true;
    resolveSignal(stopSignal);
  };
  for (const name of STOP_SIGNALS) process.on(name, listener);
  return {
    signal,
    dispose: () => {
      for (const name of STOP_SIGNALS) process.off(name, listener);
    },
  };
}
