/** Turns what happens to workers, engines and requests into events that people understand. */

import type { Transition } from "../../cluster/liveness/liveness.ts";
import type { Reschedule } from "../../cluster/dispatch/reschedules.ts";
import type { Engine, Worker, WorkerState } from "../../cluster/state/state.ts";
import type { EngineReport } from "../../protocol/engine-report.ts";
import type { EventKind, EventRow } from "../../protocol/watch-rows.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import { count } from "../../util/text.ts";
import type { Events } from "./events.ts";
import type { Refused } from "./refusal-log.ts";

export interface EventNotes extends Disposable {
  /** Only its run's first session is told: later ones are told as being back. */
  joined(worker: Worker, epoch: number): void;
  transition(transition: Transition): void;
  engine(worker: Worker, engine: Engine): void;
  suspicion(worker: Worker, engine: Engine, isSuspect: boolean): void;
  reschedules(found: readonly Reschedule[]): void;
  record(record: RequestRecord): void;
  refused(refused: Refused): void;
}

/** What happens to requests is told together: a worker that is lost moves hundreds at once. */
const TOGETHER_MS = 1000;

export function createEventNotes(events: Events, togetherMs = TOGETHER_MS): EventNotes {
  /** By what is to be told; each with the requests and the places that they went to. */
  const pending = new Map<
    string,
    { told: Omit<Tally, "count" | "places">; count: number; places: Set<string> }
  >();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = () => {
    timer = undefined;
    for (const { told, count: n, places } of pending.values()) {
      const { text, ...event } = told;
      const where = places.size > 0 ? ` to ${[...places].slice(0, 5).join(" ")}` : "";
      events.record({ ...event, text: `${count(n, "request")} ${text}${where}` });
    }
    pending.clear();
  };
  const add = (key: string, told: Omit<Tally, "count" | "places">, place: string | null) => {
    const one = pending.get(key) ?? { told, count: 0, places: new Set<string>() };
    one.count += 1;
    if (place !== null && one.places.size < MAX_PLACES) one.places.add(place);
    if (pending.size < MAX_PENDING) pending.set(key, one);
    timer ??= setTimeout(flush, togetherMs);
  };

  return {
    joined({ name, address, host, version }, epoch) {
      if (epoch > 1) return;
      const machine = host?.hostname ? ` on ${host.hostname}` : "";
      const text = `joined from ${address}${machine}, llmnode ${version}`;
      events.record({ level: "info", kind: "joined", worker: name, text });
    },
    transition({ worker, from, to }) {
      const { kind, level } = TRANSITIONS[to];
      const isBack = to === "ready" && (from === "stale" || from === "lost");
      const running = worker.inFlight > 0 ? `, ${count(worker.inFlight, "request")} in flight` : "";
      const why = worker.reason ? `: ${worker.reason}` : "";
      const text = isBack ? `is back after it was ${from}` : `${to}${why}${running}`;
      events.record({ level, kind: isBack ? "back" : kind, worker: worker.name, text });
    },
    engine(worker, engine) {
      const { report } = engine;
      const { kind, level } = engineMeaning(report);
      const model = engine.models[0]?.id ?? report.expectedModels[0] ?? null;
      const what = `${report.kind} ${report.state}${report.phase ? ` (${report.phase})` : ""}`;
      const why = report.reason ? `: ${report.reason}` : "";
      events.record({ level, kind, worker: worker.name, model, text: `engine ${what}${why}` });
    },
    suspicion(worker, engine, isSuspect) {
      const text = isSuspect
        ? `engine ${worker.name}/${engine.number} is suspect: ${engine.suspect?.reason ?? "it does nothing"}`
        : `engine ${worker.name}/${engine.number} works again`;
      events.record({
        level: isSuspect ? "warn" : "info",
        kind: "stalled",
        worker: worker.name,
        text,
      });
    },
    reschedules(found) {
      for (const { lease, kind, reason } of found) {
        const worker = lease.workerName;
        const moved = kind === "move";
        add(
          `${kind} ${worker}`,
          {
            level: "warn",
            kind: moved ? "retried" : "lost",
            worker,
            text: moved ? `taken from it: ${reason}` : `broken off: ${reason}`,
          },
          null,
        );
      }
    },
    record(record) {
      const [first] = record.attempts;
      const last = record.attempts.at(-1);
      if (!first || !last) return;
      const model = last.model;
      if (record.resume === "resumed") {
        add(
          `resumed ${first.worker}`,
          {
            level: "info",
            kind: "resumed",
            worker: first.worker,
            model,
            text: "went on in the middle of the answer",
          },
          last.worker,
        );
      } else if (record.attempts.length > 1 && last.outcome === "ok") {
        add(
          `retried ${first.worker}`,
          {
            level: "info",
            kind: "retried",
            worker: first.worker,
            model,
            text: "answered elsewhere",
          },
          last.worker,
        );
      }
      if (record.error === "cancelled") {
        events.record({
          level: "info",
          kind: "cancelled",
          worker: last.worker,
          model,
          text: `request ${record.id} cancelled`,
        });
      }
    },
    refused({ address, code, reason }) {
      events.record({
        level: "warn",
        kind: "refused",
        text: `a worker at ${address} is not let in (${code}): ${reason}`,
      });
    },
    [Symbol.dispose]() {
      clearTimeout(timer);
    },
  };
}

interface Tally {
  level: EventRow["level"];
  kind: EventKind;
  worker: string;
  model?: string;
  text: string;
  count: number;
  places: Set<string>;
}

const MAX_PLACES = 5;
const MAX_PENDING = 1000;

const TRANSITIONS: Readonly<Record<WorkerState, { kind: EventKind; level: EventRow["level"] }>> = {
  ready: { kind: "joined", level: "info" },
  stale: { kind: "stale", level: "warn" },
  lost: { kind: "lost", level: "error" },
  draining: { kind: "draining", level: "info" },
  drained: { kind: "drained", level: "info" },
  left: { kind: "left", level: "info" },
};

function engineMeaning({ state, failure }: EngineReport): {
  kind: EventKind;
  level: EventRow["level"];
} {
  switch (state) {
    case "ready":
      return { kind: "ready", level: "info" };
    case "starting":
    case "stopping":
    case "stopped":
      return { kind: "starting", level: "info" };
    case "suspect":
    case "unhealthy":
      return { kind: "stalled", level: "warn" };
    case "backoff":
      return { kind: failure === "stalled" ? "stalled" : "crashed", level: "error" };
    case "failed":
      return { kind: "failed", level: "error" };
  }
}
