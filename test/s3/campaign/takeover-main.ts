/** `make takeover-s3 RUNS=100`: see `takeover-campaign.ts`. Exits with 1, and keeps the hosts' directories, when a promise is broken. */
import { runCampaign } from './campaign-program.ts';
import { TAKEOVER_SETTINGS, TakeoverCampaign } from './takeover-campaign.ts';

runCampaign({
  name: 'takeover-s3',
  what: 'takeovers between two hosts',
  usage: { runs: 'how often the volume is taken over', loadMs: 'longest time before the next takeover begins' },
  defaults: { runs: '100', size: '8M', loadMs: '1500' },
  settings: TAKEOVER_SETTINGS,
  start: (options) => TakeoverCampaign.start(options),
  run: async (campaign, runs, tell) => {
    const sums = { inVain: 0, refusals: 0, manners: new Map<string, number>() };
    for (let run = 1; run <= runs; run += 1) {
      const { manner, owner, answered, taken, drained, inVain, refusedFirst } = await campaign.takeOver();
      sums.inVain += inVain;
      sums.refusals += refusedFirst ? 1 : 0;
      sums.manners.set(manner, (sums.manners.get(manner) ?? 0) + 1);
      tell(`${run}/${runs}: host ${owner + 1} took it from one that was ${manner}${refusedFirst ? ' (refused without --force)' : ''}: ${taken} of ${answered} requests, ${drained} drained; ${inVain} answered in vain after that`);
    }
    await campaign.finish();
    const manners = [...sums.manners].map(([manner, times]) => `${times} from one that was ${manner}`).join(', ');
    return `${runs} takeovers (${manners}; ${sums.refusals} refused first): no promise was broken; ${sums.inVain} requests were answered by hosts that had lost the volume, and none of them counts`;
  },
});
