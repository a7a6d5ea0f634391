/** The benchmark of lanes: the same engine directly, through a head, and over lanes, in one run. */

import { writeFileSync } from "node:fs";
import {
  measureLaneBulk,
  measureLaneRequests,
  measureLaneStalled,
  measureLaneStreams,
} from "./measure.ts";
import type { LaneOptions } from "./options.ts";
import { judgeLane, type LaneFigures, laneRatios, laneReport } from "./report.ts";
import { machineLoad, onStage, say, startLaneField } from "./stage.ts";
import { startLoad } from "../load/load.ts";
import { TICK_MS } from "../proc.ts";

/** Everything that it starts has ended when it settles; rejects when `signal` aborts. */
export async function runLane(options: LaneOptions, signal: AbortSignal): Promise<void> {
  const { limits, json, binary } = options;
  await onStage({ binary, signal }, async (stage) => {
    const targets = await startLaneField(stage);
    const load = await startLoad(stage.children, stage.workplace);
    const { pinning } = stage.children;
    const loadBefore = machineLoad();
    say(`${pinning}; workers share the engine's core; processor time in ticks of ${TICK_MS} ms`);
    say(`load average at the start: ${loadBefore}`);
    const with_ = { load, targets, limits, say };
    const figures: LaneFigures = {
      requests: await measureLaneRequests(with_),
      streams: await measureLaneStreams(with_),
      // Before the large bodies, which leave their mark on the heaps.
      stalled: await measureLaneStalled(with_),
      bulk: await measureLaneBulk(with_),
    };
    process.stdout.write(`\n${laneReport(figures)}`);
    if (json === null) return;
    const about = { pinning, limits, load_average_at_start: loadBefore };
    const all = { schema: "llmnode.bench.lane/1", ...about, ...figures };
    const found = { ratios: laneRatios(figures), expected: judgeLane(figures) };
    writeFileSync(json, `${JSON.stringify({ ...all, ...found }, null, 2)}\n`);
  });
}
