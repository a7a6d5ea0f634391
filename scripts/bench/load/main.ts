/** The load process: does the jobs that the benchmark sends it, several at a time if asked. */

import type { Job, JobResults, Order, Report } from "../jobs.ts";
import { loadRequests } from "./requests.ts";
import { loadSoak } from "./soak.ts";
import { loadStreams } from "./streams.ts";

function run(job: Job): Promise<JobResults[Job["kind"]]> {
  switch (job.kind) {
    case "requests":
      return loadRequests(job);
    case "streams":
      return loadStreams(job);
    case "soak":
      return loadSoak(job);
  }
}

process.on("message", async (order: Order) => {
  let report: Report;
  try {
    report = { id: order.id, result: await run(order.job) };
  } catch (error) {
    report = { id: order.id, error: String(error) };
  }
  process.send?.(report);
});
process.on("disconnect", () => process.exit());
process.stdout.write("load is up\n");
