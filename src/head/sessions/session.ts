/** The sessions of workers: hello and welcome, the messages between them, and the end. */

import { heartbeatPlan } from "../../cluster/state/limits.ts";
import { join, refuseVersion } from "../../cluster/state/admission.ts";
import { activeOrder, orderText } from "../../cluster/liveness/drains.ts";
import { disconnect, workerOf } from "../../cluster/state/registry.ts";
import { type Worker } from "../../cluster/state/state.ts";
import { messageOf } from "../../protocol/errors.ts";
import {
  type HeadMessage,
  type Hello,
  MAX_MESSAGE_BYTES,
  PROTOCOL,
  type Welcome,
} from "../../protocol/messages.ts";
import type { ServerSession } from "../../protocol/session-server.ts";
import { cleanLine } from "../../util/text.ts";
import type { Gate } from "./gate.ts";
import type { LaneSwitch } from "../transport/lane-switch.ts";
import { createModelGate } from "./model-gate.ts";
import {
  applyMessage,
  type MessageOptions,
  refresh,
  refuse,
  type SessionRefusal,
} from "./messages.ts";

export interface SessionsOptions extends MessageOptions {
  /** A worker has joined; `epoch` counts the sessions of its run. */
  onJoined: (worker: Worker, epoch: number) => void;
  head: { id: string; version: string };
  /** Decides which workers may join. */
  gate: Gate;
  lanes: LaneSwitch;
  /** Where workers open lanes. */
  lanePort: () => number;
  /** How long a connection may take until its Hello. */
  helloTimeoutMs: number;
}

export interface Sessions {
  accept(session: ServerSession): void;
  /** Sends a message to a worker; false: it has no open session, or its socket is full. */
  send(worker: Worker, message: HeadMessage): boolean;
  /** Ends the session that has this number, if it is open, with the reason. */
  end(session: number, refusal: SessionRefusal): void;
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
        const reason = `a message of ${bytes} bytes; at most ${MAX_MESSAGE_BYTES} are allowed`;
        refuse(options, session, { code: "bad_message", reason });
      };
      session.onMessage = (message) => {
        clearTimeout(timer);
        if (message.message !== "hello") {
          const reason = "the first message must be hello";
          refuse(options, session, { code: "bad_message", reason });
          return;
        }
        onHello({ options, open, session }, message.hello);
      };
    },
    send: ({ session }, message) => open.get(session)?.send(message) ?? false,
    end(number, refusal) {
      const session = open.get(number);
      if (session) refuse(options, session, refusal);
    },
  };
}

interface HelloContext {
  options: SessionsOptions;
  open: Map<number, ServerSession>;
  session: ServerSession;
}

function onHello({ options, open, session }: HelloContext, hello: Hello): void {
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
  // A worker that connects again has given up its old session.
  if (result.replaces !== null) {
    open.get(result.replaces)?.end();
    open.delete(result.replaces);
  }
  open.set(result.session, session);
  verdict.enter(worker.name).then(
    (credential) => {
      session.send({ message: "welcome", welcome: welcomeOf(credential) });
      const order = activeOrder(state, worker.id);
      if (order === null) return;
      session.send({ message: "drain", drain: { active: true, reason: orderText(order) } });
    },
    (error: unknown) => {
      log.error("cannot admit a worker", { worker: worker.name, error: messageOf(error) });
      const reason = "the head cannot save its state; its log says why";
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
  options.onJoined(worker, hello.epoch);
  refresh(options, worker);
  const id = { workerId: worker.id, session: result.session };
  const models = createModelGate(verdict.models);
  session.onMessage = (message) => {
    const current = workerOf(state, id);
    if (current) applyMessage({ options, session, worker: current, models }, message);
  };
  session.onClose = () => {
    open.delete(result.session);
    const current = workerOf(state, id);
    if (!current) return;
    disconnect(state, current);
    log.info("session ended", { worker: current.name, left: current.left });
    refresh(options, current);
  };
}

/** Text from a worker reaches terminals, pages and logs. */
function cleaned(hello: Hello): Hello {
  const pairs = Object.entries(hello.labels);
  const labels = pairs.map((pair) => pair.map((text) => cleanLine(text, 512)));
  return { ...hello, version: cleanLine(hello.version, 64), labels: Object.fromEntries(labels) };
}
