/** Operators' requests that send workers away. */

import { endRun, forget } from "../../cluster/state/registry.ts";
import { findWorker, workerNotFound } from "../../cluster/state/named.ts";
import type { ClusterState } from "../../cluster/state/state.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { text } from "../http/body.ts";
import type { Credentials } from "../sessions/credentials.ts";
import type { Sessions } from "../sessions/session.ts";
import type { AdminHandler, AdminRoute } from "./admin.ts";

export interface WorkerRoutesOptions {
  credentials: Credentials;
  state: ClusterState;
  sessions: Sessions;
  now: () => number;
  /** Takes back what was ordered of a worker. */
  dropOrders: (workerId: string) => Promise<void>;
}

export function workerRoutes(options: WorkerRoutesOptions): AdminRoute[] {
  const forget: AdminHandler = (body) => forgetWorker(options, text(body, "worker"));
  return [["POST", "/api/v1/workers/forget", "operator", forget]];
}

async function forgetWorker(options: WorkerRoutesOptions, wanted: string): Promise<object> {
  const { state, credentials, sessions, now } = options;
  const live = findWorker(state, wanted);
  const gone = credentials.get(wanted) ? [wanted] : credentials.named(wanted);
  const id = live?.id ?? gone[0];
  if (id === undefined) throw workerNotFound(wanted);
  if (!live && gone.length > 1) {
    const ids = gone.slice(0, 5).join(", ");
    const message = `several workers were called ${cleanLine(wanted, 80)}: name one by its id: ${ids}`;
    throw new LlmnodeError("refused", message);
  }
  await credentials.forget(id, live?.run ?? null);
  await options.dropOrders(id);
  if (live) {
    sessions.end(live.session, {
      code: "worker_forgotten",
      reason: "an operator has removed this worker (llmnode forget)",
      hint: "to let it join again, stop it and start it with a join token",
    });
    // What it still runs moves on or ends, as if its process had ended.
    for (const engine of live.engines.values()) endRun(state, engine.report.run, now());
    endRun(state, live.run, now());
    forget(state, live);
  }
  return { worker: { id, name: live?.name ?? credentials.get(id)?.name ?? null } };
}
