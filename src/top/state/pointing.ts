/** What the chosen row leads to: a text to copy, a log to read. */

import { cleanLine } from "../../util/text.ts";
import { startLogs } from "./logs.ts";
import type { Reduced } from "./event.ts";
import { chosenRow, rowId } from "./rows.ts";
import { flash, shownFrame, type TopState } from "./state.ts";

/** Most terminals take no more in an OSC 52. */
const MAX_COPY_BYTES = 74_000;

export function copy(state: TopState): Reduced {
  const { hello, frame, page } = state;
  const isEmpty = frame !== null && frame.totals.workers.total === 0;
  const text = isEmpty && hello ? joinCommand(hello.head) : nameHere(state);
  if (text === "" || page.kind === "logs") return { state, effects: [] };
  if (Buffer.byteLength(text) > MAX_COPY_BYTES)
    return { state: flash(state, "too long to copy", "changing"), effects: [] };
  return { state: flash(state, `copied: ${text}`), effects: [{ do: "copy", text }] };
}

/** Without what could do something where it is pasted. */
function nameHere(state: TopState): string {
  const { page } = state;
  if (page.kind === "worker" || page.kind === "model") return cleanLine(page.name, MAX_COPY_BYTES);
  const row = chosenRow(state, shownFrame(state));
  return row ? cleanLine(rowId(row), MAX_COPY_BYTES) : "";
}

/** What starts a worker for this head. */
export function joinCommand(head: { api_url: string; session_port: number }): string {
  return `llmnode join ${joinAddress(head)} -- vllm serve Qwen/Qwen3-8B`;
}

/** The port that `join` takes by itself. */
export const SESSION_PORT = 8093;

/** Where workers reach the head, with its port where that is another one than usual. */
export function joinAddress(head: { api_url: string; session_port: number }): string {
  const { api_url, session_port } = head;
  const host = URL.canParse(api_url) ? new URL(api_url).hostname : api_url;
  return session_port === SESSION_PORT ? host : `${host}:${session_port}`;
}

export function openLogs(state: TopState): TopState {
  const engine = engineOf(state);
  return engine === null
    ? flash(state, "no engine selected", "changing")
    : { ...state, page: startLogs(engine, state.page) };
}

function engineOf(state: TopState): string | null {
  const { page } = state;
  if (page.kind === "worker" || page.kind === "model") {
    return enginesHere(state)[0] ?? (page.kind === "worker" ? `${page.name}/1` : null);
  }
  const row = chosenRow(state, shownFrame(state));
  if (!row) return null;
  if (state.view === "workers") return `${rowId(row)}/1`;
  if (state.view === "models") return enginesHere(state)[0] ?? null;
  if ("engine" in row && row.engine !== null) return row.engine;
  return "worker" in row && row.worker !== null ? `${row.worker}/1` : null;
}

/** Of the worker or the model on the screen. */
function enginesHere(state: TopState): string[] {
  const detail = shownFrame(state)?.detail ?? null;
  if (detail === null) return [];
  const engines = "worker" in detail ? detail.worker.engines : detail.model.engines;
  return (engines ?? []).map(({ name }) => name);
}

/** The log of the next engine of the same worker or model. */
export function nextLog(state: TopState, by: 1 | -1): TopState {
  if (state.page.kind !== "logs") return state;
  const engines = enginesHere(state);
  const at = engines.indexOf(state.page.logs.engine);
  const next = engines[(at + by + engines.length) % engines.length];
  if (next === undefined || engines.length < 2)
    return flash(state, "no other engine here", "changing");
  return { ...state, page: startLogs(next, state.page) };
}
