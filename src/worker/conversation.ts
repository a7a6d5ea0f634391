/** The conversation of a worker with its head: hello, reports, orders, lanes, and goodbye. */

import type { EngineStatus } from "../engine/status.ts";
import { LlmnodeError } from "../protocol/errors.ts";
import {
  type Examine,
  type HeadMessage,
  type HeartbeatAck,
  type Hello,
  MIN_PROTOCOL,
  PROTOCOL,
  type Refusal,
  type UnknownMessage,
  type Welcome,
} from "../protocol/messages.ts";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import type { Upstream } from "../util/http/exchange.ts";
import type { Log } from "../util/log.ts";
import { cleanLine } from "../util/text.ts";
import type { Keyring } from "./credential.ts";
import { waitUntilDrained } from "./departure.ts";
import type { WorkerEngine } from "./engine.ts";
import type { Slot } from "./identity.ts";
import { type EngineTarget, type LaneAddress, startLanes } from "./lanes.ts";
import { startLink } from "./link.ts";
import { createLoadReport, createReporter } from "./report.ts";
import type { WorkerOptions, WorkerSettings } from "./options.ts";
import type { HardwareReport } from "./telemetry.ts";
import { startViaProxy, type ViaProxy } from "./via-proxy.ts";

export interface ConversationOptions extends Pick<
  WorkerEngine,
  "status" | "load" | "apiKey" | "continues"
> {
  worker: WorkerOptions;
  settings: WorkerSettings;
  slot: Slot;
  /** The id of this worker process. */
  run: string;
  host: NonNullable<Hello["host"]>;
  keyring: Keyring;
  /** The number of the worker's only engine. */
  engine: string;
  hardware: HardwareReport;
  /** Answers what the head asks of the worker itself over a lane. */
  logService: Upstream;
  onRestart: (reason: string) => void;
  onExamine: (examine: Examine) => void;
  /** One-token generations for that which failed in a row; null: none has ended. */
  failedGenerations: () => number | null;
}

export interface Conversation extends AsyncDisposable {
  /** As the head calls the worker. */
  name(): string;
  /** Requests that the head has running here; null while that is not known. */
  inFlight(): number | null;
  /** Settles when the head refuses this worker for good. */
  readonly refused: Promise<LlmnodeError>;
  report(status: EngineStatus): void;
  /** Leaves the routing and waits until nothing runs here any more. */
  drain(reason: string, force?: AbortSignal): Promise<void>;
  /** Leaves the routing; another process is about to adopt this worker. */
  beAdopted(): void;
  /** The last message of this worker. */
  leave(reason: string): void;
}

export function startConversation(options: ConversationOptions): Conversation {
  const { worker, settings, slot, keyring } = options;
  const { log } = worker;
  const { reporter, loads } = createReports(options);
  const proxy = worker.viaProxy
    ? startViaProxy({ proxy: worker.viaProxy, settings: settings.viaProxy })
    : null;
  const passage = proxy?.to(worker.head);
  const refused = Promise.withResolvers<LlmnodeError>();
  let name = slot.name;
  let wasJoined = false;
  let lastAck: HeartbeatAck | null = null;
  /** Why it is leaving: a head that comes back meanwhile has to hear it, too. */
  let leaving: string | null = null;
  const lanes = startConversationLanes(options, proxy);
  const link = startLink({
    head: worker.head,
    ...(passage ? { dialAt: passage.address, explain: passage.problem } : {}),
    tls: !worker.insecure,
    keys: keyring.keys,
    onVerified: keyring.verified,
    log,
    random: Math.random,
    settings: settings.link,
    vitals: () => ({ loads: loads.next(), ...options.hardware.next() }),
    onMessage(message) {
      if (message.message === "heartbeatAck") lastAck = message.heartbeatAck;
      else if (message.message === "openLanes") lanes.add(message.openLanes.count);
      else takeOrder(options, message);
    },
    onRefusal(refusal) {
      const error = takeRefusal(log, refusal);
      // Once it has been in, its engine may be serving: that goes on, and somebody may fix it. An
      // engine of which nothing is allowed serves no client.
      if (refusal.retry || (wasJoined && refusal.code !== "model_not_allowed")) return;
      refused.resolve(error);
    },
    hello: (epoch) => helloOf(options, epoch),
    announce(welcome, reached) {
      wasJoined = true;
      lanes.welcome(welcome, { certificate: link.certificate?.pem ?? null, reached });
      name = welcome.name;
      if (welcome.credential) keyring.keep(welcome.credential);
      lastAck = null;
      loads.forget();
      options.hardware.forget();
      const messages = reporter.all(options.status());
      return leaving === null ? messages : [...messages, goodbye(settings, leaving)];
    },
  });
  const leaveRouting = (reason: string) => {
    leaving = reason;
    link.send(goodbye(settings, reason));
  };

  return {
    name: () => name,
    inFlight: () => (link.connected ? (lastAck?.inFlight ?? null) : null),
    refused: refused.promise,
    report(status) {
      for (const message of reporter.changes(status)) link.send(message);
    },
    async drain(reason, force) {
      leaveRouting(reason);
      // A head that never let it in has nothing running here.
      if (!wasJoined) return;
      await waitUntilDrained({ ...settings, link, log, lastAck: () => lastAck }, force);
    },
    beAdopted: () => leaveRouting("another process adopts this worker"),
    leave: (reason) => link.send(goodbye(null, reason)),
    async [Symbol.asyncDispose]() {
      lanes.close();
      await link[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
    },
  };
}

function createReports({ worker, settings, ...options }: ConversationOptions) {
  const { engine, apiKey, load: latest, failedGenerations } = options;
  const repeatMs = settings.loadRepeatMs;
  return {
    reporter: createReporter({ engine, advertise: worker.advertise, apiKey, now: Date.now }),
    loads: createLoadReport({ engine, latest, failedGenerations, repeatMs }),
  };
}

function helloOf({ worker, slot, ...options }: ConversationOptions, epoch: number): Hello {
  return {
    protocol: PROTOCOL,
    minProtocol: MIN_PROTOCOL,
    version: worker.version,
    workerId: slot.workerId,
    name: slot.name,
    nameChosen: slot.nameChosen,
    run: options.run,
    epoch,
    labels: worker.labels,
    host: options.host,
    sentAt: Date.now(),
    data: worker.data,
    continues: options.continues ?? "",
  };
}

/** For good, or until what runs here has ended, for which `drain` says how long that may take. */
function goodbye(drain: Pick<WorkerSettings, "drainTimeoutMs"> | null, reason: string) {
  const goodbye = { left: drain === null, reason, deadlineMs: drain?.drainTimeoutMs ?? 0 };
  return { message: "goodbye" as const, goodbye };
}

/** Logs it, and returns it as the error that ends a worker. */
function takeRefusal(log: Log, refusal: Refusal): LlmnodeError {
  const message = `the head refuses this worker: ${cleanLine(refusal.reason, 500)}`;
  const hint = cleanLine(refusal.hint, 500);
  log.warn(message, { hint: hint || undefined });
  return new LlmnodeError("join_failed", message, { hints: hint ? [hint] : [] });
}

/** Does what the head asks for in a session that was accepted. */
function takeOrder(
  { worker: { log }, onRestart, onExamine }: ConversationOptions,
  message: HeadMessage | UnknownMessage,
): void {
  switch (message.message) {
    case "drain": {
      const { active, reason } = message.drain;
      log.info(active ? "the head sends no new requests" : "the head sends requests again", {
        reason: reason || undefined,
      });
      break;
    }
    case "restartEngine":
      onRestart(message.restartEngine.reason);
      break;
    case "examine":
      onExamine(message.examine);
      break;
    case "notice": {
      const hint = cleanLine(message.notice.hint, 500) || undefined;
      log.warn(`the head says: ${cleanLine(message.notice.text, 500)}`, { hint });
      break;
    }
    case undefined:
      log.debug("a message of a newer head was ignored");
  }
}

/** The lanes of all sessions; each welcome says where the next ones lead. */
function startConversationLanes(options: ConversationOptions, proxy: ViaProxy | null) {
  const { worker, settings } = options;
  const { log } = worker;
  let address: LaneAddress | null = null;
  const lanes = startLanes({
    workerId: options.slot.workerId,
    address: () => address,
    maxLanes: settings.maxLanes,
    log,
    logService: options.logService,
    engine(number): EngineTarget | null {
      const { url } = options.status();
      return number === options.engine && url !== null ? { url, apiKey: options.apiKey } : null;
    },
  });
  const onProblem = (problem: string) => log.warn(`lanes cannot be opened: ${problem}`);
  const dialAt = (at: HostPort) => proxy?.to(at, onProblem).address ?? at;
  return {
    add: lanes.add,
    close: lanes.close,
    /** `reached` is the address that the session has. */
    welcome(
      welcome: Welcome,
      { certificate, reached }: { certificate: string | null; reached: string | null },
    ) {
      // Not resolved again: the name's address may have changed, and be cached here.
      const host = proxy === null && reached !== null ? reached : worker.head.host;
      address = laneAddressOf(welcome, { host, insecure: worker.insecure, certificate, dialAt });
      lanes.add(welcome.lanes);
    },
  };
}

/** Where the head says that its lanes are; null where it has none. */
function laneAddressOf(
  welcome: Welcome,
  at: {
    host: string;
    insecure: boolean;
    certificate: string | null;
    dialAt: (lanes: HostPort) => HostPort;
  },
): LaneAddress | null {
  if (welcome.lanePort === 0) return null;
  const { host, insecure, certificate } = at;
  const address = formatHostPort(at.dialAt({ host, port: welcome.lanePort }));
  const url = `${insecure ? "ws" : "wss"}://${address}/`;
  return { url, ca: insecure ? null : certificate, key: welcome.laneKey };
}
