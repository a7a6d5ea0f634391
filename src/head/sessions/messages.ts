/** Applies the messages of a worker's session to the cluster's state. */

import { heartbeatPlan } from "../../cluster/state/limits.ts";
import { updateLiveness, type Transition } from "../../cluster/liveness/liveness.ts";
import { goodbye, heard, reportEngine, reportModels } from "../../cluster/state/registry.ts";
import { reportLoads } from "../../cluster/state/load.ts";
import { type ClusterState, type Engine, type Worker } from "../../cluster/state/state.ts";
import { withTelemetry } from "../../cluster/state/telemetry.ts";
import type { ErrorCode } from "../../protocol/errors.ts";
import type { ModelList, UnknownMessage, WorkerMessage } from "../../protocol/messages.ts";
import type { ServerSession } from "../../protocol/session-server.ts";
import type { Log } from "../../util/log.ts";
import type { ModelGate } from "./model-gate.ts";
import type { Refused } from "../events/refusal-log.ts";

export interface MessageOptions {
  state: ClusterState;
  now: () => number;
  log: Log;
  /** Called with a worker that is refused, or whose message is. */
  onRefused: (refused: Refused) => void;
  /** A worker's state changed. */
  onTransition: (transition: Transition) => void;
  /** The upstream route of an engine may have changed. */
  onRouteStale: (worker: Worker, engine: Engine) => void;
  /** An engine is in another state or another run. */
  onEngine: (worker: Worker, engine: Engine) => void;
  /** Called after every message: requests may have waited for what it says. */
  onReport: () => void;
}

export interface SessionRefusal {
  code: ErrorCode;
  reason: string;
  hint?: string;
  retry?: boolean;
}

interface MessageContext {
  options: MessageOptions;
  session: ServerSession;
  worker: Worker;
  models: ModelGate;
}

/** Applies a message of a worker that has joined. One that cannot be valid ends its session. */
export function applyMessage(
  context: MessageContext,
  message: WorkerMessage | UnknownMessage,
): void {
  const { options, session, worker, models } = context;
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
          // It grows with the cluster: early workers would send heartbeats too often for ever.
          heartbeatIntervalMs: heartbeatPlan(state).intervalMs,
        },
      });
      break;
    case "engine": {
      const report = models.engine(message.engine);
      const change = reportEngine(state, { worker, report }, now);
      if (!change) {
        const most = state.limits.maxEnginesPerWorker;
        const reason = `an engine with an invalid number, or more than ${most} engines`;
        refuse(options, session, { code: "bad_message", reason });
        return;
      }
      if (change.stateChanged) {
        logEngine(options.log, worker, change.engine);
        options.onEngine(worker, change.engine);
      }
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
      if (!message.models.more) reportRefusedModels(context, message.models, hadModels);
      break;
    }
    case "goodbye":
      goodbye(state, worker, message.goodbye);
      break;
    case "hello":
      options.log.warn("repeated hello ignored", { worker: worker.name });
      break;
    case undefined:
      options.log.debug("unknown message ignored", { worker: worker.name });
      break;
  }
  refresh(options, worker);
}

/**
 * Models that the join token does not allow are not offered, and the worker gets a notice; one that
 * has nothing else, and never had, is refused.
 */
function reportRefusedModels(context: MessageContext, list: ModelList, hadModels: boolean): void {
  const { options, session, worker, models } = context;
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
export function refresh(options: MessageOptions, worker: Worker): void {
  const transition = updateLiveness(options.state, worker, options.now());
  if (transition) options.onTransition(transition);
  options.onReport();
}

/** Says why a session ends, and ends it. */
export function refuse(
  options: MessageOptions,
  session: ServerSession,
  refusal: SessionRefusal,
): void {
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
  const { kind, state, phase, reason } = engine.report;
  const fields = {
    engine: `${worker.name}/${engine.number}`,
    kind,
    state,
    phase: phase ?? undefined,
    reason: reason ?? undefined,
  };
  if (state === "ready" || state === "starting") log.info("engine", fields);
  else log.warn("engine", fields);
}
