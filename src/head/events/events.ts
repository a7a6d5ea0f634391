/** What has happened in the cluster, for viewers: the newest events, in memory only. */

import type { EventKind, EventRow } from "../../protocol/watch-rows.ts";
import { cleanLine } from "../../util/text.ts";

export interface NewEvent {
  level: EventRow["level"];
  kind: EventKind;
  worker?: string | null;
  model?: string | null;
  text: string;
}

export interface Events {
  record(event: NewEvent): void;
  /** The newest `limit` with a higher id than `after` and an age of at most `sinceMs`, the oldest first. */
  list(wanted?: {
    after?: number | null;
    sinceMs?: number | null;
    limit?: number | null;
  }): EventRow[];
  /** The id of the newest; 0: nothing has happened. */
  readonly last: number;
  /** Calls `listener` for each new event; the result ends that. */
  listen(listener: (event: EventRow) => void): () => void;
}

/** How many are kept. */
const DEFAULT_CAPACITY = 10_000;
const MAX_TEXT = 500;

export function createEvents(options: { now: () => number; capacity?: number }): Events {
  const { now, capacity = DEFAULT_CAPACITY } = options;
  /** In a ring: event `id` is at `(id - 1) % capacity`. */
  const ring: EventRow[] = [];
  const listeners = new Set<(event: EventRow) => void>();
  let last = 0;

  const at = (id: number) => ring[(id - 1) % capacity];
  return {
    record({ level, kind, worker = null, model = null, text }) {
      last += 1;
      const event: EventRow = {
        id: last,
        time: new Date(now()).toISOString(),
        level,
        kind,
        worker: worker === null ? null : cleanLine(worker, 64),
        model: model === null ? null : cleanLine(model, 200),
        text: cleanLine(text, MAX_TEXT),
      };
      ring[(last - 1) % capacity] = event;
      for (const listener of [...listeners]) listener(event);
    },
    list({ after, sinceMs = null, limit } = {}) {
      const oldest = Math.max(1, last - capacity + 1, (after ?? 0) + 1);
      const since = sinceMs === null ? 0 : now() - sinceMs;
      const most = limit ?? capacity;
      const found: EventRow[] = [];
      for (let id = last; id >= oldest && found.length < most; id -= 1) {
        const event = at(id);
        if (!event || Date.parse(event.time) < since) break;
        found.push(event);
      }
      return found.reverse();
    },
    get last() {
      return last;
    },
    listen(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
