/** Turns what workers say on their sessions into the state of the cluster. */

import { join, type JoinResult, refuseVersion } from "../cluster/admission.ts";
import { settle, type Transition } from "../cluster/liveness.ts";
import {
  disconnect,
  goodbye,
  heard,
  reportEngine,
  reportModels,
  workerOf,
} from "../cluster/registry.ts";
import { reportLoads } from "../cluster/load.ts";
import { type ClusterState, type Engine, heartbeatPlan, type Worker } from "../cluster/state.ts";
import { withTelemetry } from "../cluster/telemetry.ts";
import { type ErrorCode, messageOf } from "../protocol/errors.ts";
import {
  type Hello,
  MAX_MESSAGE_BYTES,
  type ModelList,
  PROTOCOL,
  type UnknownMessage,
  type Welcome,
  type WorkerMessage,
} from "../protocol/messages.ts";
import type { ServerSession } from "../protocol/session-server.ts";
import type { Log } from "../util/log.ts";
import { cleanLine } from "../util/text.ts";
import type { Gate } from "./gate.ts";
import type { LaneSwitch } from "./lane-switch.ts";
import { createModelGate, type ModelGate } from "./model-gate.ts";
import type { Refused } from "./refusal-log.ts";

export interface SessionsOptions {
  state: ClusterState;
  head: { id: string; version: string };
  now: () => number;
  log: Log;
  /** Who may come in. */
  gate: Gate;
  /** Tells of a worker that is not let in. */
  onRefused: (refused: Refused) => void;
  /** A worker's state changed. */
  onTransition: (transition: Transition) => void;
  /** The way to an engine must be found out. */
  onRouteStale: (worker: Worker, engine: Engine) => void;
  lanes: LaneSwitch;
  /** Where workers open lanes. */
  lanePort: () => number;
  /** How long a connection may take to say Hello. */
  helloTimeoutMs: number;
}

export interface Sessions {
  accept(session: ServerSession): void;
  /** Ends the session that has this number, if it is open, with the reason. */
  end(session: number, refusal: Refusing): void;
}

interface Refusing {
  code: ErrorCode;
  reason: string;
  hint?: string;
  retry?: boolean;
}

export function createSessions(options: SessionsOptions): Sessions {
  /** Open sessions that count, by their number. */
  const open = new Map<number, ServerSession>();
  return {
    accept(session) {
      const timer = setTimeout(() => session.end(), options.helloTimeoutMs);
      session.onClose = () => clearTimeout(timer);
      session.onOversized = (bytes) => {
        clearTimeout(timer);
        refuse(options, session, {
          code: "bad_message",
          reason: `a message of ${bytes} bytes; at most ${MAX_MESSAGE_BYTES} are allowed`,
        });
      };
      session.onMessage = (message) => {
        clearTimeout(timer);
        if (message.message !== "hello") {
          refuse(options, session, {
            code: "bad_message",
            reason: "the first message must be hello",
          });
          return;
        }
        greet({ options, open, session }, message.hello);
      };
    },
    end(number, refusal) {
      const session = open.get(number);
      if (session) refuse(options, session, refusal);
    },
  };
}

interface Greeting {
  options: SessionsOptions;
  open: Map<number, ServerSession>;
  session: ServerSession;
}

function greet({ options, open, session }: Greeting, hello: Hello): void {
  const { state, log } = options;
  const now = options.now();
  const wrongVersion = refuseVersion(hello);
  const verdict = wrongVersion ? null : options.gate(hello, session.shown);
  if (!verdict?.allowed) {
    const refusal = wrongVersion ?? verdict?.refusal;
    if (refusal) refuse(options, session, refusal);
    return;
  }
  const result = join(state, { hello: cleaned(hello), address: session.address }, now);
  if (!result.accepted) {
    refuse(options, session, result.refusal);
    return;
  }
  const { worker } = result;
  replaceOld(open, result);
  open.set(result.session, session);
  verdict.enter(worker.name).then(
    (credential) => session.send({ message: "welcome", welcome: welcomeOf(credential) }),
    (error: unknown) => {
      log.error("a worker cannot be let in", { worker: worker.name, error: messageOf(error) });
      const reason = "the head cannot keep its state; its log says why";
      refuse(options, session, { code: "internal", reason, retry: true });
    },
  );
  const welcomeOf = (credential: string): Welcome => {
    const plan = heartbeatPlan(state);
    const lanes = options.lanes.enter(worker, (message) => void session.send(message));
    return {
      protocol: Math.min(PROTOCOL, hello.protocol),
      version: options.head.version,
      headRun: options.head.id,
      name: worker.name,
      heartbeatIntervalMs: plan.intervalMs,
      staleAfterMs: plan.staleAfterMs,
      lostAfterMs: plan.lostAfterMs,
      sentAt: Date.now(),
      credential,
      lanePort: options.lanePort(),
      laneKey: lanes.key,
      lanes: lanes.count,
    };
  };
  log.info("worker joined", { worker: worker.name, address: worker.address, epoch: hello.epoch });
  note(options, worker);
  const id = { workerId: worker.id, session: result.session };
  const models = createModelGate(verdict.models);
  session.onMessage = (message) => {
    const current = workerOf(state, id);
    if (current) take({ options, session, worker: current, models }, message);
  };
  session.onClose = () => {
    open.delete(result.session);
    const current = workerOf(state, id);
    if (!current) return;
    disconnect(state, current);
    log.info("session ended", { worker: current.name, left: current.left });
    note(options, current);
  };
}

/** A worker that dials anew has given its old session up. */
function replaceOld(
  open: Map<number, ServerSession>,
  result: Extract<JoinResult, { accepted: true }>,
): void {
  if (result.replaces === null) return;
  open.get(result.replaces)?.end();
  open.delete(result.replaces);
}

interface Taking {
  options: SessionsOptions;
  session: ServerSession;
  worker: Worker;
  models: ModelGate;
}

function take(taking: Taking, message: WorkerMessage | UnknownMessage): void {
  const { options, session, worker, models } = taking;
  const { state } = options;
  const now = options.now();
  heard(worker, now);
  switch (message.message) {
    case "heartbeat":
      reportLoads(worker, message.heartbeat.loads ?? [], now);
      worker.hardware = withTelemetry(worker.hardware, message.heartbeat, now);
      session.send({
        message: "heartbeatAck",
        heartbeatAck: {
          sequence: message.heartbeat.sequence,
          inFlight: worker.inFlight,
          // It grows with the cluster: who came early would beat too often for ever.
          heartbeatIntervalMs: heartbeatPlan(state).intervalMs,
        },
      });
      break;
    case "engine": {
      const report = models.engine(message.engine);
      const change = reportEngine(state, { worker, report }, now);
      if (!change) {
        const most = state.limits.maxEnginesPerWorker;
        refuse(options, session, {
          code: "bad_message",
          reason: `an engine without a sound number, or more than ${most} engines`,
        });
        return;
      }
      if (change.stateChanged) logEngine(options.log, worker, change.engine);
      if (change.routeStale) options.onRouteStale(worker, change.engine);
      break;
    }
    case "models": {
      const hadModels = (worker.engines.get(message.models.engine)?.models.length ?? 0) > 0;
      if (!reportModels(state, { worker, list: models.models(message.models) }, now)) {
        const most = state.limits.maxModelsPerWorker;
        refuse(options, session, { code: "bad_message", reason: `more than ${most} models` });
        return;
      }
      if (!message.models.more) tellRefused(taking, message.models, hadModels);
      break;
    }
    case "goodbye":
      goodbye(state, worker, message.goodbye);
      break;
    case "hello":
      options.log.warn("hello in the middle of a session ignored", { worker: worker.name });
      break;
    case undefined:
      options.log.debug("unknown message ignored", { worker: worker.name });
      break;
  }
  note(options, worker);
}

/**
 * Models that the join token does not allow are not offered, and the worker is told; one that has
 * nothing else, and never had, is sent away.
 */
function tellRefused(taking: Taking, list: ModelList, hadModels: boolean): void {
  const { options, session, worker, models } = taking;
  const verdict = models.verdict(list.engine);
  if (!verdict) return;
  const code = "model_not_allowed";
  const hint =
    "join with a join token that allows them: llmnode join-token create --models PATTERN";
  if (verdict.none && !hadModels) {
    goodbye(options.state, worker, { left: true, reason: verdict.text, deadlineMs: 0 });
    refuse(options, session, { code, reason: verdict.text, hint });
    return;
  }
  options.onRefused({ address: session.address, code, reason: verdict.text });
  session.send({ message: "notice", notice: { code, text: verdict.text, hint } });
}

/** Brings the worker's state up to date at once, without waiting for the next tick. */
function note(options: SessionsOptions, worker: Worker): void {
  const transition = settle(options.state, worker, options.now());
  if (transition) options.onTransition(transition);
}

function refuse(options: SessionsOptions, session: ServerSession, refusal: Refusing): void {
  const { code, reason } = refusal;
  options.onRefused({ address: session.address, code, reason });
  session.onMessage = () => {};
  session.send({
    message: "refusal",
    refusal: { code, reason, hint: refusal.hint ?? "", retry: refusal.retry ?? false },
  });
  session.end();
}

function logEngine(log: Log, worker: Worker, engine: Engine): void {
  const fields = {
    engine: `${worker.name}/${engine.number}`,
    kind: engine.kind,
    state: engine.state,
    phase: engine.phase ?? undefined,
    reason: engine.reason ?? undefined,
  };
  if (engine.state === "ready" || engine.state === "starting") log.info("engine", fields);
  else log.warn("engine", fields);
}

/** Text from a worker reaches terminals, pages and logs. */
function cleaned(hello: Hello): Hello {
  const labels = Object.entries(hello.labels).map(([key, value]) => [
    cleanLine(key, 512),
    cleanLine(value, 512),
  ]);
  return { ...hello, version: cleanLine(hello.version, 64), labels: Object.fromEntries(labels) };
}
