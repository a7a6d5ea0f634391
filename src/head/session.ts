/** Turns what workers say on their sessions into the state of the cluster. */

import { join, type JoinResult } from "../cluster/admission.ts";
import { settle, type Transition } from "../cluster/liveness.ts";
import {
  disconnect,
  goodbye,
  heard,
  reportEngine,
  reportModels,
  workerOf,
} from "../cluster/registry.ts";
import { type ClusterState, type Engine, heartbeatPlan, type Worker } from "../cluster/state.ts";
import {
  type Hello,
  PROTOCOL,
  type UnknownMessage,
  type WorkerMessage,
} from "../protocol/messages.ts";
import type { ServerSession } from "../protocol/session-server.ts";
import type { Log } from "../util/log.ts";
import { cleanLine } from "../util/text.ts";

export interface SessionsOptions {
  state: ClusterState;
  head: { id: string; version: string };
  now: () => number;
  log: Log;
  /** A worker's state changed. */
  onTransition: (transition: Transition) => void;
  /** The way to an engine must be found out. */
  onRouteStale: (worker: Worker, engine: Engine) => void;
  /** How long a connection may take to say Hello. */
  helloTimeoutMs: number;
}

export interface Sessions {
  accept(session: ServerSession): void;
}

export function createSessions(options: SessionsOptions): Sessions {
  /** Open sessions that count, by their number. */
  const open = new Map<number, ServerSession>();
  return {
    accept(session) {
      const timer = setTimeout(() => session.end(), options.helloTimeoutMs);
      session.onClose = () => clearTimeout(timer);
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
  const result = join(state, { hello: cleaned(hello), address: session.address }, now);
  if (!result.accepted) {
    refuse(options, session, result.refusal);
    return;
  }
  const { worker } = result;
  replaceOld(open, result);
  open.set(result.session, session);
  const plan = heartbeatPlan(state);
  session.send({
    message: "welcome",
    welcome: {
      protocol: Math.min(PROTOCOL, hello.protocol),
      version: options.head.version,
      headRun: options.head.id,
      name: worker.name,
      heartbeatIntervalMs: plan.intervalMs,
      staleAfterMs: plan.staleAfterMs,
      lostAfterMs: plan.lostAfterMs,
      sentAt: Date.now(),
    },
  });
  log.info("worker joined", { worker: worker.name, address: worker.address, epoch: hello.epoch });
  note(options, worker);
  const id = { workerId: worker.id, session: result.session };
  session.onMessage = (message) => {
    const current = workerOf(state, id);
    if (current) take({ options, session, worker: current }, message);
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
}

function take({ options, session, worker }: Taking, message: WorkerMessage | UnknownMessage): void {
  const { state } = options;
  const now = options.now();
  heard(worker, now);
  switch (message.message) {
    case "heartbeat":
      session.send({
        message: "heartbeatAck",
        heartbeatAck: { sequence: message.heartbeat.sequence, inFlight: worker.inFlight },
      });
      break;
    case "engine": {
      const change = reportEngine(state, { worker, report: message.engine }, now);
      if (!change) {
        const most = state.limits.maxEnginesPerWorker;
        refuse(options, session, { code: "bad_message", reason: `more than ${most} engines` });
        return;
      }
      if (change.stateChanged) logEngine(options.log, worker, change.engine);
      if (change.routeStale) options.onRouteStale(worker, change.engine);
      break;
    }
    case "models":
      if (!reportModels(state, { worker, list: message.models }, now)) {
        const most = state.limits.maxModelsPerWorker;
        refuse(options, session, { code: "bad_message", reason: `more than ${most} models` });
        return;
      }
      break;
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

/** Brings the worker's state up to date at once, without waiting for the next tick. */
function note(options: SessionsOptions, worker: Worker): void {
  const transition = settle(options.state, worker, options.now());
  if (transition) options.onTransition(transition);
}

function refuse(
  options: SessionsOptions,
  session: ServerSession,
  refusal: { code: string; reason: string; hint?: string; retry?: boolean },
): void {
  const { code, reason } = refusal;
  options.log.warn("worker refused", { address: session.address, code, reason });
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
