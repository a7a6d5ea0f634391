/** The lanes of all workers: who may open them, and the route to an engine over them. */

import { heard } from "../../cluster/state/registry.ts";
import type { ClusterState, Lease, Worker } from "../../cluster/state/state.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { HeadMessage } from "../../protocol/messages.ts";
import type { Upstream } from "../../util/http/exchange.ts";
import { LANE_SETTINGS, LanePool, type LaneSettings } from "./lane-pool.ts";
import { isSamePlace, type Place } from "./upstream-route.ts";

interface LaneSwitchOptions {
  state: ClusterState;
  now: () => number;
  /** Workers at the same place are reached directly, and keep no lanes free. */
  place: Place;
  settings: Partial<LaneSettings>;
}

export interface LaneSwitch extends Disposable {
  /** A worker's session: lanes of the same run live on, those of an earlier run end. */
  enter(worker: Worker, send: (message: HeadMessage) => void): { key: string; count: number };
  /** Who a lane belongs to, for the lane port. */
  worker(id: string): { pool: LanePool; key: string; heard: () => void } | null;
  /** The route to an engine: fails with `upstream_unreachable` where there is none any more. */
  upstream(engine: LaneTarget): Upstream;
  /** Closes what is no longer needed; to be called now and then. */
  tidy(): void;
}

/** An engine of one run of a worker. */
export type LaneTarget = Pick<Lease, "workerId" | "workerRun" | "engineNumber">;

interface Entry {
  run: string;
  key: string;
  pool: LanePool;
  send: (message: HeadMessage) => void;
}

export function createLaneSwitch({ state, now, place, settings }: LaneSwitchOptions): LaneSwitch {
  const limits = { ...LANE_SETTINGS, ...settings };
  const entries = new Map<string, Entry>();
  const total = () => [...entries.values()].reduce((sum, { pool }) => sum + pool.lanes, 0);

  const open = (worker: Worker, send: Entry["send"]): Entry => {
    const isNear = worker.data !== "lane" && isSamePlace(place, worker);
    const entry: Entry = {
      run: worker.run,
      key: "",
      send,
      pool: new LanePool({
        ...limits,
        parkedAtFirst: isNear ? 0 : limits.parkedAtFirst,
        maxLanes: limits.maxLanesPerWorker,
        mayGrow: () => total() < limits.maxLanes,
        requestMore: (count) => entry.send({ message: "openLanes", openLanes: { count } }),
      }),
    };
    return entry;
  };
  const upstream = ({ workerId, workerRun, engineNumber }: LaneTarget): Upstream => {
    const entry = entries.get(workerId);
    return entry?.run === workerRun ? entry.pool.upstream(engineNumber) : withoutWorker;
  };
  return {
    enter(worker, send) {
      const known = entries.get(worker.id);
      const isSame = known?.run === worker.run;
      if (!isSame) known?.pool.close();
      const entry = isSame ? known : open(worker, send);
      entry.send = send;
      entry.key = crypto.randomUUID();
      entries.set(worker.id, entry);
      return { key: entry.key, count: entry.pool.renew() };
    },
    worker(id) {
      const entry = entries.get(id);
      if (!entry) return null;
      const { pool, key, run } = entry;
      return {
        pool,
        key,
        heard() {
          const worker = state.workers.get(id);
          if (worker?.run === run) heard(worker, now());
        },
      };
    },
    upstream,
    tidy() {
      for (const [id, { pool, run }] of entries) {
        if (state.workers.get(id)?.run === run) {
          pool.shrink(performance.now());
          continue;
        }
        pool.close();
        entries.delete(id);
      }
    },
    [Symbol.dispose]() {
      for (const { pool } of entries.values()) pool.close();
      entries.clear();
    },
  };
}

const withoutWorker: Upstream = (_, sink) => {
  let isOver = false;
  queueMicrotask(() => {
    if (!isOver) sink.fail(new LlmnodeError("upstream_unreachable", "The worker is gone."));
  });
  return {
    pause() {},
    resume() {},
    abort() {
      isOver = true;
    },
  };
};
