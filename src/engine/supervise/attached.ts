/** Watches an engine that somebody else runs. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import type { Log } from "../../util/log.ts";
import { cleanLine } from "../../util/text.ts";
import type { StatusReport } from "../report.ts";
import type { SupervisorSettings } from "./settings.ts";
import { type Overrides, watchEngine } from "./watch.ts";

export interface AttachedUrl extends HostPort {
  /** Without a slash at the end. */
  url: string;
  https: boolean;
}

export interface AttachedOptions {
  target: AttachedUrl;
  settings: SupervisorSettings;
  report: StatusReport;
  log: Log;
  told: Overrides;
  /** See WatchOptions. */
  flowAgeMs: () => number | null;
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

/** Settles when `stop` aborts, with null: nothing is left to end, the engine goes on. */
export async function watchAttached(options: AttachedOptions, stop: AbortSignal): Promise<null> {
  const { target, settings, report, log } = options;
  let isAnnounced = false;
  await watchEngine(
    {
      kind: "generic",
      https: target.https,
      apiKey: null,
      settings,
      told: options.told,
      flowAgeMs: options.flowAgeMs,
      addresses: () => Promise.resolve([target]),
      onReady: (engine) => report.dispatch({ type: "answered" }, { ...engine, url: target.url }),
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
