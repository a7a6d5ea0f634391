/** Records what happens to workers, engines and requests as events that people understand. */

import type { Transition } from "../../cluster/liveness/liveness.ts";
import type { Reschedule } from "../../cluster/dispatch/reschedules.ts";
import type { Engine, Worker, WorkerState } from "../../cluster/state/state.ts";
import type { EngineReport } from "../../protocol/engine-report.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import { count } from "../../util/text.ts";
import type { Events, NewEvent } from "./events.ts";
import type { Refused } from "./refusal-log.ts";

export interface EventNotes extends Disposable {
  /** Recorded for the first session of a run only: later ones are recorded as being back. */
  joined(worker: Worker, epoch: number): void;
  transition(transition: Transition): void;
  engine(worker: Worker, engine: Engine): void;
  suspicion(worker: Worker, engine: Engine, isSuspect: boolean): void;
  reschedules(found: readonly Reschedule[]): void;
  record(record: RequestRecord): void;
  refused(refused: Refused): void;
}

/** What happens to requests is recorded together: a worker that is lost moves hundreds at once. */
export function createEventNotes(events: Events, togetherMs = 1000): EventNotes {
  const tally = createTally(events, togetherMs);
  return {
    joined({ name, address, host, version }, epoch) {
      if (epoch > 1) return;
      const machine = host?.hostname ? ` on ${host.hostname}` : "";
      const text = `joined from ${address}${machine}, llmnode ${version}`;
      events.record({ level: "info", kind: "joined", worker: name, text });
    },
    transition: (transition) => events.record(transitionEvent(transition)),
    engine: (worker, engine) => events.record(engineEvent(worker, engine)),
    suspicion(worker, engine, isSuspect) {
      const name = `engine ${worker.name}/${engine.number}`;
      const text = isSuspect
        ? `${name} is suspect: ${engine.suspect?.reason ?? "it does nothing"}`
        : `${name} works again`;
      const level = isSuspect ? "warn" : "info";
      events.record({ level, kind: "stalled", worker: worker.name, text });
    },
    reschedules(found) {
      for (const { lease, kind, reason } of found) {
        const worker = lease.workerName;
        const event =
          kind === "move"
            ? ({ kind: "retried", text: `moved elsewhere: ${reason}` } as const)
            : ({ kind: "lost", text: `failed: ${reason}` } as const);
        tally.add(`${kind} ${worker}`, { level: "warn", worker, ...event }, null);
      }
    },
    record(record) {
      const [first] = record.attempts;
      const last = record.attempts.at(-1);
      if (!first || !last) return;
      const { worker } = first;
      const { model } = last;
      const isRetried = record.attempts.length > 1 && last.outcome === "ok";
      const kind = record.resume === "resumed" ? "resumed" : isRetried ? "retried" : null;
      if (kind !== null) {
        const event = { level: "info", kind, worker, model, text: kind } as const;
        tally.add(`${kind} ${worker}`, event, last.worker);
      }
      if (record.error === "cancelled") {
        const text = `request ${record.id} cancelled`;
        events.record({ level: "info", kind: "cancelled", worker: last.worker, model, text });
      }
    },
    refused({ address, code, reason }) {
      const text = `a worker at ${address} was refused (${code}): ${reason}`;
      events.record({ level: "warn", kind: "refused", text });
    },
    [Symbol.dispose]: tally[Symbol.dispose],
  };
}

const MAX_PLACES = 5;
const MAX_PENDING = 1000;

interface Pending {
  event: NewEvent;
  count: number;
  /** Where the requests went. */
  places: Set<string>;
}

/** Counts events of single requests, and records those with the same key as one. */
function createTally(events: Events, togetherMs: number) {
  const pending = new Map<string, Pending>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = () => {
    timer = undefined;
    for (const { event, count: n, places } of pending.values()) {
      const where = places.size > 0 ? ` on ${[...places].join(" ")}` : "";
      events.record({ ...event, text: `${count(n, "request")} ${event.text}${where}` });
    }
    pending.clear();
  };
  return {
    add(key: string, event: NewEvent, place: string | null) {
      const one = pending.get(key) ?? { event, count: 0, places: new Set<string>() };
      one.count += 1;
      if (place !== null && one.places.size < MAX_PLACES) one.places.add(place);
      if (pending.size < MAX_PENDING) pending.set(key, one);
      timer ??= setTimeout(flush, togetherMs);
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}

function transitionEvent({ worker, from, to }: Transition): NewEvent {
  const { kind, level } = TRANSITIONS[to];
  if (to === "ready" && (from === "stale" || from === "lost")) {
    return { level, kind: "back", worker: worker.name, text: `is back after it was ${from}` };
  }
  const why = worker.reason ? `: ${worker.reason}` : "";
  const running = worker.inFlight > 0 ? `, ${count(worker.inFlight, "request")} in flight` : "";
  return { level, kind, worker: worker.name, text: `${to}${why}${running}` };
}

function engineEvent(worker: Worker, { report, models }: Engine): NewEvent {
  const model = models[0]?.id ?? report.expectedModels[0] ?? null;
  const phase = report.phase ? ` (${report.phase})` : "";
  const why = report.reason ? `: ${report.reason}` : "";
  const text = `engine ${report.kind} ${report.state}${phase}${why}`;
  return { ...engineMeaning(report), worker: worker.name, model, text };
}

type Meaning = Pick<NewEvent, "kind" | "level">;

const TRANSITIONS: Readonly<Record<WorkerState, Meaning>> = {
  ready: { kind: "joined", level: "info" },
  stale: { kind: "stale", level: "warn" },
  lost: { kind: "lost", level: "error" },
  draining: { kind: "draining", level: "info" },
  drained: { kind: "drained", level: "info" },
  left: { kind: "left", level: "info" },
};

function engineMeaning({ state, failure }: EngineReport): Meaning {
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
