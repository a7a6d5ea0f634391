/** What the options of `llmnode head` ask for. */

import { usage } from "../base/messages.ts";
import type { TlsFiles } from "../../head/api/client-tls.ts";
import { ACCESS_MODES } from "../../head/access/modes.ts";
import { PUBLIC_PARTS } from "../../head/http/route-table.ts";
import type { HeadOptions } from "../../head/options.ts";
import type { HostPort } from "../../util/host-port.ts";
import { addressOption, DEFAULT_HTTP_PORT, DEFAULT_SESSION_PORT } from "../daemon/daemon.ts";
import { readRouting } from "../daemon/head-routing.ts";
import type { Options } from "../base/options.ts";
import type { Invocation } from "../base/spec.ts";

export type WantedHead = Omit<HeadOptions, "dataDir" | "version" | "log" | "requestLog"> & {
  tls: TlsFiles | null;
};

/** Throws `usage` for the first thing that cannot be. */
export function readHead({ options }: Pick<Invocation, "options">): WantedHead {
  const sessionListen = addressOption(options, "session-listen", {
    host: "0.0.0.0",
    port: DEFAULT_SESSION_PORT,
  });
  const maxBodyBytes = options.bytes("max-body-size") ?? 0;
  if (maxBodyBytes === 0) throw options.invalid("max-body-size", "more than zero");
  const maxRequestsPerAddress =
    options.integer("max-requests-per-address", { min: 1, max: 1_000_000 }) ?? 4096;
  const shutdownDelayMs = options.durationMs("shutdown-delay") ?? 0;
  const maxWaiting = options.integer("queue-size", { min: 1, max: 1_000_000 }) ?? 256;
  const queueTimeoutMs = options.durationMs("queue-timeout") ?? 0;
  const settleMs = options.durationMs("settle-time") ?? 0;
  if (queueTimeoutMs === 0) throw options.invalid("queue-timeout", "more than zero");
  return {
    listen: addressOption(options, "listen", { host: "0.0.0.0", port: DEFAULT_HTTP_PORT }),
    tls: tlsFiles(options),
    sessionListen,
    laneListen: addressOption(options, "lane-listen", above(sessionListen)),
    insecure: options.isOn("insecure"),
    allowAdvertise: options.texts("allow-advertise"),
    infoHeaders: !options.isOn("no-info-headers"),
    logBodies: options.isOn("log-bodies"),
    resume: options.choice("resume", ["auto", "off"]),
    routing: readRouting(options),
    access: options.choice("access", ACCESS_MODES),
    public: publicParts(options),
    trustedProxies: options.texts("trusted-proxy"),
    adminListen:
      options.text("admin-listen") === null
        ? null
        : addressOption(options, "admin-listen", { host: "127.0.0.1", port: 8095 }),
    ...optional("corsOrigin", options.text("cors")),
    ...optional("otlp", options.text("otlp")),
    settings: {
      cluster: { maxWaiting, queueTimeoutMs, settleMs },
      maxBodyBytes,
      maxRequestsPerAddress,
      shutdownDelayMs,
    },
  };
}

/** Words with commas between them, the option given once or several times. Throws `usage`. */
function publicParts(options: Options): NonNullable<HeadOptions["public"]> {
  const words = options.texts("public").flatMap((text) => text.split(","));
  const isKnown = (word: string) => PUBLIC_PARTS.some((part) => part === word);
  if (!words.every(isKnown)) {
    throw options.invalid("public", "status, metrics or both, with a comma between them");
  }
  return Object.fromEntries(words.map((word) => [word, true]));
}

/** Both files or none. Throws `usage`. */
function tlsFiles(options: Options): TlsFiles | null {
  const cert = options.text("tls-cert");
  const key = options.text("tls-key");
  if (cert !== null && key !== null) return { cert, key };
  if (cert === null && key === null) return null;
  const missing = cert === null ? "--tls-cert" : "--tls-key";
  throw usage(`head: --tls-cert and --tls-key go together, ${missing} is missing`);
}

/** Where lanes are listened for unless told otherwise; beside any free port is any other. */
function above({ host, port }: HostPort): HostPort {
  return { host, port: port === 0 ? 0 : port + 1 };
}

function optional<K extends string, V>(key: K, value: V | null | undefined): Partial<Record<K, V>> {
  return value === null || value === undefined ? {} : ({ [key]: value } as Partial<Record<K, V>>);
}
