/** What a worker reports of its engine, only what changed: its state and models as messages, its load in heartbeats. */

import type { LoadSample } from "../engine/ask/load.ts";
import type { EngineLoad, Model, WorkerMessage } from "../protocol/messages.ts";
import type { EngineStatus } from "../engine/status.ts";
import { writeReport } from "../protocol/engine-report.ts";

export interface ReportOptions {
  engine: string;
  advertise: string | null;
  apiKey: string | null;
  now: () => number;
}

export interface Reporter {
  /** Everything, for a new session. */
  all(status: EngineStatus): WorkerMessage[];
  /** What differs from what was reported last. */
  changes(status: EngineStatus): WorkerMessage[];
}

/** Room for a page of models below the 16 KiB that a message may have. */
const PAGE_BYTES = 12 * 1024;

export function createReporter(options: ReportOptions): Reporter {
  let lastReport = "";
  let lastModels = "";
  let revision = 0;

  const report = (status: EngineStatus): WorkerMessage[] => {
    const { advertise, apiKey, now } = options;
    const https = status.url?.startsWith("https:") ?? false;
    const known = { ...status, run: status.run ?? "", https, advertise, apiKey };
    const key = JSON.stringify({ ...known, models: [] });
    if (key === lastReport) return [];
    lastReport = key;
    return [{ message: "engine", engine: writeReport(options.engine, known, now()) }];
  };
  const models = (status: EngineStatus): WorkerMessage[] => {
    const list = status.models.map(modelOf);
    const key = JSON.stringify([status.run, list]);
    if (key === lastModels) return [];
    lastModels = key;
    revision += 1;
    return pages(list).map((page, index, all) => ({
      message: "models",
      models: {
        engine: options.engine,
        run: status.run ?? "",
        revision,
        models: page,
        more: index < all.length - 1,
      },
    }));
  };
  const changes = (status: EngineStatus) => {
    const engine = report(status);
    const list = models(status);
    return [...engine, ...list];
  };
  return {
    changes,
    all(status) {
      lastReport = "";
      lastModels = "";
      return changes(status);
    },
  };
}

function modelOf(model: EngineStatus["models"][number]): Model {
  const card: Model = { id: model.id, parent: model.parent ?? "", card: model.card ?? "" };
  if (model.maxModelLen !== null) card.maxModelLen = model.maxModelLen;
  if (model.loaded !== null) card.loaded = model.loaded;
  return card;
}

/** At least one page, so that an empty list replaces a full one. */
function pages(models: Model[]): Model[][] {
  const all: Model[][] = [[]];
  let bytes = 0;
  for (const model of models) {
    // The strings, and what protobuf puts around them.
    const strings = [model.id, model.parent, model.card];
    const size = strings.reduce((sum, text) => sum + Buffer.byteLength(text), 32);
    if (bytes + size > PAGE_BYTES) {
      all.push([]);
      bytes = 0;
    }
    all.at(-1)?.push(model);
    bytes += size;
  }
  return all;
}

export interface LoadReportOptions {
  engine: string;
  latest: () => LoadSample | null;
  /** One-token generations that failed in a row; null: none is known of. */
  failedGenerations: () => number | null;
  /** Unchanged figures are sent again after this: less than the head lets them hold. */
  repeatMs: number;
}

export interface LoadReport {
  /** What is new since the last call; unknown load is left to grow old at the head. */
  next(): EngineLoad[];
  /** A new session knows nothing yet. */
  forget(): void;
}

export function createLoadReport(options: LoadReportOptions): LoadReport {
  const { engine, latest, failedGenerations, repeatMs } = options;
  type Figures = Omit<EngineLoad, "engine" | "sampleAgeMs">;
  let last: { load: Figures; at: number } | null = null;
  return {
    next() {
      const sample = latest();
      const failed = failedGenerations();
      if (sample === null && failed === null) return [];
      const flow = sample?.flow ?? null;
      const load: Figures = {
        ...sample?.load,
        ...(flow !== null && { flow }),
        ...(failed !== null && { failedGenerations: failed }),
      };
      const now = performance.now();
      const isOld = last === null || now - last.at >= repeatMs;
      if (!isOld && Bun.deepEquals(last?.load, load)) return [];
      last = { load, at: now };
      return [{ engine, ...load, sampleAgeMs: sample?.ageMs ?? 0 }];
    },
    forget() {
      last = null;
    },
  };
}
