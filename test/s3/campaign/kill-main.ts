/** `make crash-s3 RUNS=20`: see `kill-campaign.ts`. Exits with 1, and keeps the hosts' directories, when something is lost. */
import { runCampaign } from './campaign-program.ts';
import { KillCampaign, SMALL_REMOTE_SETTINGS } from './kill-campaign.ts';

runCampaign({
  name: 'crash-s3',
  what: 'kills of the server and of the S3 server',
  usage: { runs: 'how often something is killed: the server and the S3 server in turn', loadMs: 'longest time before the next thing happens' },
  defaults: { runs: '20', size: '32M', loadMs: '2500' },
  settings: SMALL_REMOTE_SETTINGS,
  start: (options) => KillCampaign.start(options),
  run: async (campaign, runs, tell) => {
    for (let run = 1; run <= runs; run += 1) {
      const { victim, requests, acknowledged, recovered, drained, objects, isDiskLost } = await campaign.run(run % 2 === 1 ? 'server' : 'S3 server');
      const lost = isDiskLost ? '; its disk was lost, and it went on from there' : '';
      tell(`run ${run}/${runs}: ${victim} killed, ${requests} changes answered; with its disk all ${acknowledged}, from the bucket (${objects} objects) ${recovered}, ${drained} of them drained${lost}`);
    }
    await campaign.finish();
    return `${runs} runs, nothing that was promised was lost, and nothing was out of order`;
  },
});
