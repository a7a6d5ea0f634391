/** Does at the head what a person has confirmed. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { count } from "../../util/text.ts";
import type { HeadCalls } from "./client.ts";
import { PATIENCE_MS } from "../state/asking.ts";
import type { ActResult } from "../state/event.ts";
import type { Action } from "../state/state.ts";
import { isRecord } from "../../util/json.ts";

export interface ActOptions {
  head: HeadCalls;
  /** The name under which the orders are shown to others. */
  who: string;
}

/** The actions are of one kind. Never rejects: what went wrong is in the results. */
export async function doActions(
  options: ActOptions,
  actions: readonly Action[],
): Promise<ActResult[]> {
  const [first] = actions;
  if (!first) return [];
  // Workers of one order are drained or restarted by the head, all of them or none.
  if (first.verb !== "cancel" && first.verb !== "forget") return await order(options, actions);
  const results: ActResult[] = [];
  for (const action of actions) results.push(await one(options, action));
  return results;
}

async function one({ head }: ActOptions, action: Action): Promise<ActResult> {
  const isCancel = action.verb === "cancel";
  try {
    if (isCancel) await head.post("/api/v1/requests/cancel", { id: action.request });
    else await head.post("/api/v1/workers/forget", { worker: action.id });
    const text = isCancel ? `${action.request}: cancelled` : `${action.worker}: forgotten`;
    return { action, ok: true, text, lastOf: [] };
  } catch (error) {
    return { action, ok: false, text: messageOf(error), lastOf: [] };
  }
}

const DONE = {
  drain: "draining",
  undrain: "takes requests again",
  restart: "will be restarted",
} as const;

async function order({ head, who }: ActOptions, actions: readonly Action[]): Promise<ActResult[]> {
  const orders = actions.filter((action) => action.verb !== "cancel");
  const [first] = orders;
  if (!first || first.verb === "forget") return [];
  const { verb, force } = first;
  const path = `/api/v1/workers/${verb}`;
  const body = { workers: orders.map(({ id }) => id), who, force, deadline_ms: PATIENCE_MS };
  try {
    await head.post(path, body);
    const undo = verb === "drain" ? " (undo: U)" : "";
    const name = orders.length === 1 ? first.worker : count(orders.length, "worker");
    const text = `${name}: ${DONE[verb]}${undo}`;
    return orders.map((action) => ({ action, ok: true, text, lastOf: [] }));
  } catch (error) {
    const isRefused = error instanceof LlmnodeError && error.code === "last_replica" && !force;
    const lastOf = isRefused && verb !== "undrain" ? await lastReplicas(head, path, body) : [];
    return orders.map((action) => ({ action, ok: false, text: messageOf(error), lastOf }));
  }
}

/** The models that would be without a ready replica; none where that was not why it was refused. */
async function lastReplicas(head: HeadCalls, path: string, body: object): Promise<string[]> {
  try {
    const answer: unknown = JSON.parse(await head.post(path, { ...body, dry_run: true }));
    const last = isRecord(answer) && "last_replicas" in answer ? answer["last_replicas"] : null;
    if (!Array.isArray(last)) return [];
    const names = last.map((item: { name?: unknown } | null) => item?.name);
    return [...new Set(names.filter((name) => typeof name === "string"))];
  } catch {
    // The refusal itself is what is shown then.
    return [];
  }
}
