/** The benchmark's end of the load process. */

import { join } from "node:path";
import type { Children } from "../children.ts";
import type { Job, JobResults, Order, Report } from "../jobs.ts";

export interface Load {
  do<J extends Job>(job: J): Promise<JobResults[J["kind"]]>;
}

export async function startLoad(children: Children, cwd: string): Promise<Load> {
  const waiting = new Map<number, PromiseWithResolvers<JobResults[Job["kind"]]>>();
  let orders = 0;
  const child = children.start({
    name: "load",
    argv: [process.execPath, join(import.meta.dir, "main.ts")],
    place: "rest",
    cwd,
    onMessage(message) {
      const report = message as Report;
      const order = waiting.get(report.id);
      waiting.delete(report.id);
      if ("error" in report) order?.reject(new Error(`the load failed: ${report.error}`));
      else order?.resolve(report.result);
    },
  });
  await child.line(/load is up/);
  return {
    async do<J extends Job>(job: J) {
      orders += 1;
      const order: Order = { id: orders, job };
      const answer = Promise.withResolvers<JobResults[Job["kind"]]>();
      waiting.set(order.id, answer);
      child.send(order);
      // A result is of its job's kind: the load process answers by that.
      return (await Promise.race([answer.promise, children.trouble])) as JobResults[J["kind"]];
    },
  };
}
