/** What changes volumes the same way with a server and without one. */
import type { CliContext, VolumeChanges } from './context.ts';
import { readSettings } from './flags.ts';

/** Runs `task` with the server that runs in the directory, or else with the volumes themselves. */
export async function withVolumes<T>(context: CliContext, directory: string, task: (volumes: VolumeChanges, live: boolean) => Promise<T>): Promise<T> {
  const server = await context.findServer(directory);
  if (server !== null) return task(server, true);
  const { settings } = await readSettings(context);
  const volumes = await context.openVolumes({ directory, settings: settings.engine, remote: settings.remote });
  try {
    return await task(volumes, false);
  } finally {
    await volumes.close();
  }
}
