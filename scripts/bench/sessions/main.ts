/** A process full of workers that are no more than a session, kept as a real worker keeps its own. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { JOIN_TOKEN_FILE, parseJoinToken } from "../../../src/protocol/head-files.ts";
import { unknownReport, writeReport } from "../../../src/protocol/engine-report.ts";
import { MIN_PROTOCOL, PROTOCOL } from "../../../src/protocol/messages.ts";
import { readHostFacts } from "../../../src/telemetry/host.ts";
import { parseHostPort } from "../../../src/util/host-port.ts";
import { createLog } from "../../../src/util/log.ts";
import { type Link, startLink } from "../../../src/worker/link.ts";
import type { SessionsOrder, SessionsReport } from "./crowd.ts";
import { MODEL } from "../wire.ts";

const REPORT_MS = 100;
/**
 * Thousands share a core here that have machines of their own otherwise. With the usual patience
 * none of them would get through its handshakes in time, however fast the head is.
 */
const WELCOME_TIMEOUT_MS = 60_000;

const log = createLog({ write() {} });
const host = readHostFacts();
const links: Link[] = [];
const seen = { acks: 0, refusals: 0 };

function add({ sessions, dir, prefix, enginePort }: SessionsOrder): void {
  const head = parseHostPort(sessions, { port: 0 });
  const token = parseJoinToken(readFileSync(join(dir, JOIN_TOKEN_FILE), "utf8"));
  if (head === null || token === null) throw new Error("the head has no address or no join token");
  const workerId = `${prefix}-${links.length}`;
  const run = crypto.randomUUID();
  let credential: string | null = null;
  const link = startLink({
    head,
    tls: true,
    keys: () => [{ fingerprint: token.fingerprint, credential, joinToken: token.secret }],
    onVerified() {},
    hello: (epoch) => ({
      protocol: PROTOCOL,
      minProtocol: MIN_PROTOCOL,
      version: "0.0.0-bench",
      workerId,
      name: workerId,
      nameChosen: false,
      run,
      epoch,
      labels: {},
      host,
      sentAt: Date.now(),
      data: "direct",
      continues: "",
    }),
    announce(welcome) {
      if (welcome.credential !== "") credential = welcome.credential;
      return [
        {
          message: "engine",
          engine: {
            ...writeReport("1", unknownReport(0), 0),
            run: `engine-${run}`,
            kind: "vllm",
            state: "READY",
            port: enginePort,
          },
        },
        {
          message: "models",
          models: {
            engine: "1",
            run: `engine-${run}`,
            revision: 1,
            models: [{ id: MODEL, parent: "", card: "" }],
            more: false,
          },
        },
      ];
    },
    onMessage(message) {
      if (message.message === "heartbeatAck") seen.acks += 1;
    },
    onRefusal() {
      seen.refusals += 1;
    },
    log,
    random: Math.random,
    settings: { welcomeTimeoutMs: WELCOME_TIMEOUT_MS },
  });
  links.push(link);
}

process.on("message", (order: SessionsOrder) => {
  for (let n = 0; n < order.workers; n += 1) add(order);
});
process.on("disconnect", () => process.exit());
setInterval(() => {
  const connected = links.filter((link) => link.connected).length;
  process.send?.({ connected, ...seen } satisfies SessionsReport);
}, REPORT_MS);
process.stdout.write("workers are up\n");
