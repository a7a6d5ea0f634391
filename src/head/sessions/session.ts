/** Turns what workers say on their sessions into the state of the cluster. */

import { heartbeatPlan } from "../../cluster/state/limits.ts";
import { join, type JoinResult, refuseVersion } from "../../cluster/state/admission.ts";
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
import { type MessageOptions, note, refuse, type Refusing, takeMessage } from "./messages.ts";

export interface SessionsOptions extends MessageOptions {
  /** A worker was let in; `epoch` counts the sessions of its run. */
  onJoined: (worker: Worker, epoch: number) => void;
  head: { id: string; version: string };
  /** Who may come in. */
  gate: Gate;
  lanes: LaneSwitch;
  /** Where workers open lanes. */
  lanePort: () => number;
  /** How long a connection may take to say Hello. */
  helloTimeoutMs: number;
}

export interface Sessions {
  accept(session: ServerSession): void;
  /** Says something to a worker; false: it has no open session, or does not take any more. */
  tell(worker: Worker, message: HeadMessage): boolean;
  /** Ends the session that has this number, if it is open, with the reason. */
  end(session: number, refusal: Refusing): void;
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
    tell: ({ session }, message) => open.get(session)?.send(message) ?? false,
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
    (credential) => {
      session.send({ message: "welcome", welcome: welcomeOf(credential) });
      const order = activeOrder(state, worker.id);
      if (order === null) return;
      session.send({ message: "drain", drain: { active: true, reason: orderText(order) } });
    },
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
  options.onJoined(worker, hello.epoch);
  note(options, worker);
  const id = { workerId: worker.id, session: result.session };
  const models = createModelGate(verdict.models);
  session.onMessage = (message) => {
    const current = workerOf(state, id);
    if (current) takeMessage({ options, session, worker: current, models }, message);
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

/** Text from a worker reaches terminals, pages and logs. */
function cleaned(hello: Hello): Hello {
  const labels = Object.entries(hello.labels).map(([key, value]) => [
    cleanLine(key, 512),
    cleanLine(value, 512),
  ]);
  return { ...hello, version: cleanLine(hello.version, 64), labels: Object.fromEntries(labels) };
}
