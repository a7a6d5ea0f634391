/** What a worker and its head say to each other: hello, reports, orders, lanes, and goodbye. */

import type { LoadSample } from "../engine/ask/load.ts";
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
import { cleanLine } from "../util/text.ts";
import type { Keyring } from "./credential.ts";
import { waitUntilDrained } from "./drain.ts";
import type { Slot } from "./identity.ts";
import type { EngineTarget } from "./lane.ts";
import { type LaneAddress, startLanes } from "./lanes.ts";
import { startLink } from "./link.ts";
import type { LogService } from "./logs.ts";
import { createLoadReport } from "./load.ts";
import type { WorkerOptions, WorkerSettings } from "./options.ts";
import { takeOrder } from "./orders.ts";
import { createReporter } from "./report.ts";
import type { HardwareReport } from "./telemetry.ts";
import { startViaProxy } from "./via-proxy.ts";

export interface ConversationOptions {
  worker: WorkerOptions;
  settings: WorkerSettings;
  slot: Slot;
  /** This life of the worker. */
  run: string;
  /** The life of the worker whose engine this one took over; null: none. */
  continues: string | null;
  host: NonNullable<Hello["host"]>;
  /** What the worker shows and whom it trusts. */
  keyring: Keyring;
  /** The number of the worker's only engine. */
  engine: string;
  apiKey: string | null;
  status: () => EngineStatus;
  /** What the engine says about its load; null: not known. */
  load: () => LoadSample | null;
  /** What was measured of the machine. */
  hardware: HardwareReport;
  /** Answers what the head asks of the worker itself over a lane. */
  logService: LogService;
  /** The head wants the engine stopped and started again. */
  onRestart: (reason: string) => void;
  /** The head wants to know more of the engine. */
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
  /** Tells the head what changed. */
  report(status: EngineStatus): void;
  /** Leaves the routing and waits until nothing runs here any more. */
  drain(reason: string, force?: AbortSignal): Promise<void>;
  /** Leaves the routing; another life of this worker follows. */
  handOver(): void;
  /** The last word. */
  leave(reason: string): void;
}

export function startConversation(options: ConversationOptions): Conversation {
  const { worker, settings, slot, keyring } = options;
  const { log } = worker;
  const reporter = createReporter({
    engine: options.engine,
    advertise: worker.advertise,
    apiKey: options.apiKey,
    now: Date.now,
  });
  const loads = createLoadReport({
    engine: options.engine,
    latest: options.load,
    failedGenerations: options.failedGenerations,
    repeatMs: settings.loadRepeatMs,
  });
  const proxy = worker.viaProxy
    ? startViaProxy({ proxy: worker.viaProxy, settings: settings.viaProxy })
    : null;
  const passage = proxy?.to(worker.head);
  const tellOfLanes = (problem: string) => log.warn(`lanes cannot be opened: ${problem}`);
  const laneDial = (at: HostPort) => proxy?.to(at, tellOfLanes).address ?? at;
  const refused = Promise.withResolvers<LlmnodeError>();
  let name = slot.name;
  let wasJoined = false;
  let lastAck: HeartbeatAck | null = null;
  // What a head is told that comes back while the worker is leaving.
  let parting: string | null = null;

  let certificate: string | null = null;
  let laneAddress: LaneAddress | null = null;
  const lanes = startLanes({
    workerId: slot.workerId,
    address: () => laneAddress,
    maxLanes: settings.maxLanes,
    log,
    logService: options.logService,
    engine(number): EngineTarget | null {
      const { url } = options.status();
      return number === options.engine && url !== null ? { url, apiKey: options.apiKey } : null;
    },
  });
  const farewell = (reason: string, left: boolean) => ({
    message: "goodbye" as const,
    goodbye: { left, reason, deadlineMs: left ? 0 : settings.drainTimeoutMs },
  });

  const take = (message: HeadMessage | UnknownMessage) =>
    takeOrder(
      {
        log,
        onAck(ack) {
          lastAck = ack;
        },
        openLanes: lanes.add,
        onRestart: options.onRestart,
        onExamine: options.onExamine,
      },
      message,
    );
  const onRefusal = (refusal: Refusal) => {
    const reason = cleanLine(refusal.reason, 500);
    const hint = cleanLine(refusal.hint, 500);
    log.warn(`the head refuses this worker: ${reason}`, { hint: hint || undefined });
    // Once it has been in, its engine may be serving: that goes on, and somebody may mend it. An
    // engine of which nothing is allowed serves nobody.
    if (refusal.retry || (wasJoined && refusal.code !== "model_not_allowed")) return;
    const hints = hint ? [hint] : [];
    refused.resolve(
      new LlmnodeError("join_failed", `the head refuses this worker: ${reason}`, { hints }),
    );
  };
  const link = startLink({
    head: worker.head,
    ...(passage ? { dialAt: passage.address, explain: passage.problem } : {}),
    tls: !worker.insecure,
    keys: keyring.keys,
    onVerified(verified) {
      certificate = verified.pem;
      keyring.verified(verified);
    },
    log,
    random: Math.random,
    settings: settings.link,
    vitals: () => ({ loads: loads.next(), ...options.hardware.next() }),
    onMessage: take,
    onRefusal,
    hello: (epoch) => ({
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
    }),
    announce: (welcome, reached) => {
      wasJoined = true;
      // Not by its name anew: the name's address may have changed, and be cached here.
      const host = proxy === null && reached !== null ? reached : worker.head.host;
      const at = { host, insecure: worker.insecure, certificate, dialAt: laneDial };
      laneAddress = laneAddressOf(welcome, at);
      lanes.add(welcome.lanes);
      name = welcome.name;
      if (welcome.credential) keyring.keep(welcome.credential);
      lastAck = null;
      loads.forget();
      options.hardware.forget();
      const messages = reporter.all(options.status());
      return parting === null ? messages : [...messages, farewell(parting, false)];
    },
  });
  const part = (reason: string) => {
    parting = reason;
    link.send(farewell(reason, false));
  };

  return {
    name: () => name,
    inFlight: () => (link.connected ? (lastAck?.inFlight ?? null) : null),
    refused: refused.promise,
    report(status) {
      for (const message of reporter.changes(status)) link.send(message);
    },
    async drain(reason, force) {
      part(reason);
      // A head that never let it in has nothing running here.
      if (!wasJoined) return;
      await waitUntilDrained({ ...settings, link, log, lastAck: () => lastAck }, force);
    },
    handOver: () => part("handed over to another process of this worker"),
    leave: (reason) => link.send(farewell(reason, true)),
    async [Symbol.asyncDispose]() {
      lanes.close();
      await link[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
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
