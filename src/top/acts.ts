/** Does at the head what a person has confirmed, one after the other. */

import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import type { HeadCalls } from "./client.ts";
import type { ActResult } from "./reduce.ts";
import type { Action } from "./state.ts";

/** Never rejects: what went wrong is in the results. */
export async function doActions(head: HeadCalls, actions: readonly Action[]): Promise<ActResult[]> {
  const results: ActResult[] = [];
  for (const action of actions) results.push(await act(head, action));
  return results;
}

async function act(head: HeadCalls, action: Action): Promise<ActResult> {
  const { path, body, done } = callOf(action);
  try {
    await head.post(path, body);
    return { action, ok: true, text: done, lastOf: [] };
  } catch (error) {
    return { action, ok: false, text: messageOf(error), lastOf: lastReplicasOf(error) };
  }
}

function callOf(action: Action): { path: string; body: object; done: string } {
  const { verb, force } = action;
  if (verb === "cancel") {
    const { request } = action;
    return {
      path: "/api/v1/requests/cancel",
      body: { id: request },
      done: `${request}: cancelled`,
    };
  }
  const { worker } = action;
  const said = {
    drain: "draining",
    undrain: "takes requests again",
    restart: "restarting",
    forget: "forgotten",
  };
  const undo = verb === "drain" ? ` (undo: U, or llmnode undrain ${worker})` : "";
  const body = verb === "drain" || verb === "restart" ? { worker, force } : { worker };
  return { path: `/api/v1/workers/${verb}`, body, done: `${worker}: ${said[verb]}${undo}` };
}

/** The models that the head names when it refuses because they would be lost; see `head/drains`. */
function lastReplicasOf(error: unknown): string[] {
  if (!(error instanceof LlmnodeError) || error.code !== "refused") return [];
  const named = /last ready replica of (.+?)(?:[;:.]\s|$)/.exec(error.message)?.[1];
  return named === undefined ? [] : named.split(", ");
}
