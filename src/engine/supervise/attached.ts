/** Watches an engine that somebody else runs, and remembers its run for the worker after this one. */

import { rmSync } from "node:fs";
import path from "node:path";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import { fieldsIn } from "../../util/json.ts";
import { readJsonFile, writeJsonFile } from "../../util/json-file.ts";
import type { Log } from "../../util/log.ts";
import { cleanLine } from "../../util/text.ts";
import { NO_FACTS } from "../presets/preset.ts";
import type { SupervisorLoop } from "./loop.ts";
import { prepareAttached, type Supervised, type SupervisorOptions } from "./prepare.ts";
import type { StopSignals } from "./run-engine.ts";
import { watchEngine } from "./watch.ts";

export interface AttachedUrl extends HostPort {
  /** Without a slash at the end. */
  url: string;
  https: boolean;
}

/** Reads the URL of a running engine. Throws LlmnodeError `usage` for anything but scheme and host. */
export function parseAttachUrl(text: string): AttachedUrl {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isHttp = url?.protocol === "http:" || url?.protocol === "https:";
  const isBare = url?.pathname === "/" && url.search === "" && url.hash === "" && !url.username;
  if (!url || !isHttp || !isBare) {
    const advice = isHttp && url ? url.origin : "http://127.0.0.1:11434";
    throw new LlmnodeError("usage", `cannot attach to "${cleanLine(text, 200)}"`, {
      hints: [`write the engine's address without a path: --attach ${advice}`],
    });
  }
  const https = url.protocol === "https:";
  const port = url.port === "" ? (https ? 443 : 80) : Number(url.port);
  return { url: url.origin, host: url.hostname.replace(/^\[|\]$/g, ""), port, https };
}

/** An engine that is only watched does not end. */
const NEVER: SupervisorLoop["final"] = new Promise(() => undefined);

/** Throws LlmnodeError `usage`. Ends with `stop` or `release`; the engine goes on. */
export async function superviseAttached(
  at: string,
  options: SupervisorOptions,
  { signals, flowAgeMs }: { signals: StopSignals; flowAgeMs: () => number | null },
): Promise<Supervised & SupervisorLoop> {
  const { dir, workerRun = crypto.randomUUID(), log } = options;
  const target = parseAttachUrl(at);
  const { port, url } = target;
  const prepared = await prepareAttached(options, flowAgeMs);
  const { run, continues, forget } = continueAttached({ dir, url, workerRun }, log);
  const engine = prepared.supervise({ run, port, url });
  const done = watchAttached(engine, target, AbortSignal.any([signals.stop, signals.release]));
  signals.stop.addEventListener("abort", forget, { once: true });
  return { ...engine, done, continues, final: NEVER, run: () => null };
}

/** Settles when `stop` aborts, with null: nothing is left to end, the engine goes on. */
async function watchAttached(
  engine: Supervised,
  target: AttachedUrl,
  stop: AbortSignal,
): Promise<null> {
  const { settings, report, log } = engine;
  let isAnnounced = false;
  await watchEngine(
    {
      ...engine,
      argvFacts: { ...NO_FACTS, kind: "generic", https: target.https },
      addresses: () => Promise.resolve([target]),
      onReady: (found) => report.dispatch({ type: "answered" }, { ...found, url: target.url }),
      onWell: () => report.dispatch({ type: "answered" }),
      onModels: (models) => report.update({ models }),
      onFailure({ reason }) {
        if (!isAnnounced && report.condition().state === "starting") {
          log.warn(`attached engine does not answer yet: ${reason}`, { url: target.url });
          isAnnounced = true;
        }
        report.dispatch({ type: "waiting", reason });
        report.dispatch({ type: "missed", reason, limit: settings.failuresUntilUnhealthy });
      },
    },
    stop,
  );
  return null;
}

/** The file, as it stands. */
interface AttachRecord {
  schema: 1;
  url: string;
  /** The run of the worker that watched it last. */
  worker_run: string;
  /** What the engine's run was called then. */
  run: string;
}

interface AttachedRun {
  run: string;
  /** The run of the worker that watched it before and did not say goodbye; null: none. */
  continues: string | null;
  /** The worker leaves in order: the next one starts again. */
  forget(): void;
}

const FILE = "attached.json";

/**
 * Names the run of the engine at `url`: as the worker before did if it ended without a goodbye. The
 * engine did not end with it, so the requests that it has are not to be taken for lost.
 */
function continueAttached(
  { dir, url, workerRun }: { dir: string; url: string; workerRun: string },
  log: Log,
): AttachedRun {
  const file = path.join(dir, FILE);
  const before = readRecord(file);
  const isSame = before !== null && before.url === url;
  const run = isSame ? before.run : crypto.randomUUID();
  const keep = (action: () => void) => {
    try {
      action();
    } catch (error) {
      log.warn("cannot write down which engine this is", { dir, error: messageOf(error) });
    }
  };
  keep(() => {
    const record: AttachRecord = { schema: 1, url, worker_run: workerRun, run };
    writeJsonFile(file, record);
  });
  return {
    run,
    continues: isSame ? before.worker_run : null,
    forget: () => keep(() => rmSync(file, { force: true })),
  };
}

/** Null where there is none to go on from: then it is a new run. */
function readRecord(file: string): AttachRecord | null {
  const { schema, url, worker_run, run } = fieldsIn(readJsonFile(file));
  if (schema !== 1 || typeof url !== "string") return null;
  if (typeof worker_run !== "string" || typeof run !== "string") return null;
  return { schema, url, worker_run, run };
}
