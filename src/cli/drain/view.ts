/** What the head says of orders about workers, read and put into words. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine, count } from "../../util/text.ts";
import { type JsonRecord, fieldsIn, list, number, text } from "../../util/json.ts";

/** A worker with an order, as the head has it now. */
export interface OrderView {
  /** Names the order. */
  id: string;
  worker: string;
  /** Null: the worker is not there. */
  state: string | null;
  inFlight: number;
  purpose: string;
  stage: string;
  who: string;
  since: string | null;
  deadline: string | null;
  cutOff: number;
  /** Whether it was there before the command. */
  isOld: boolean;
  /** "starting (load 40%)" of an engine that is to start anew. */
  engine: string | null;
}

/** An order that is no more. */
export interface EndedView {
  id: string;
  outcome: string;
  reason: string | null;
  cutOff: number;
}

export interface OrdersView {
  orders: OrderView[];
  ended: EndedView[];
  /** Models and services whose last ready replica is on one of the workers. */
  last: { worker: string; name: string }[];
}

/** Throws `bad_message` for what is nothing of the kind. */
export function readOrders(body: string): OrdersView {
  const root = fieldsIn(JSON.parse(body));
  if (!Array.isArray(root["workers"])) {
    const message = "this version does not understand the head's answer";
    throw new LlmnodeError("bad_message", message);
  }
  return {
    orders: list(root["workers"]).map(readOrder),
    ended: list(root["ended"]).map((entry) => ({
      id: text(fieldsIn(entry["drain"])["id"]) ?? "",
      outcome: text(entry["outcome"]) ?? "?",
      reason: text(entry["reason"]),
      cutOff: number(fieldsIn(entry["drain"])["cut_off"]) ?? 0,
    })),
    last: list(root["last_replicas"]).map((entry) => ({
      worker: clean(entry["worker"]),
      name: clean(entry["name"]),
    })),
  };
}

function readOrder(entry: JsonRecord): OrderView {
  const order = fieldsIn(entry["drain"]);
  const state = text(entry["engine_state"]);
  const phase = text(entry["engine_phase"]);
  return {
    id: text(order["id"]) ?? "",
    worker: clean(entry["name"]),
    state: text(entry["state"]),
    inFlight: number(entry["in_flight"]) ?? 0,
    purpose: text(order["purpose"]) ?? "?",
    stage: text(order["stage"]) ?? "?",
    who: clean(order["who"]),
    since: text(order["since"]),
    deadline: text(order["deadline"]),
    cutOff: number(order["cut_off"]) ?? 0,
    isOld: entry["was_ordered"] === true,
    engine: state && cleanLine(phase === null ? state : `${state} (${phase})`, 120),
  };
}

function clean(value: unknown): string {
  return cleanLine(text(value) ?? "?", 100);
}

/** How far it is: what is told again when it changes. */
export function progressText(order: OrderView): string {
  const { worker, stage, inFlight } = order;
  if (stage === "queued") return `${worker}: waits for its turn`;
  if (stage === "restarting") return `${worker}: restarting, its engine is ${order.engine ?? "?"}`;
  return `${worker}: draining, ${inFlight} in flight`;
}

/** The first line about an order: with what ends it, and how to undo it. */
export function firstText(order: OrderView): string {
  const until = order.deadline === null ? "" : `, deadline ${clockTime(order.deadline)}`;
  return `${progressText(order)}${until} (undo: llmnode undrain ${order.worker})`;
}

/** A worker that had its order already. */
export function oldText({ worker, who, since, purpose }: OrderView): string {
  const what = purpose === "restart" ? "is being restarted" : "is drained";
  return `${worker}: ${what} already, by ${who}${since === null ? "" : ` since ${clockTime(since)}`}`;
}

/** "gpu-01 has the last ready replica of A, B": null where there is none. */
export function lastText(last: OrdersView["last"]): string | null {
  if (last.length === 0) return null;
  const workers = [...new Set(last.map(({ worker }) => worker))];
  const names = [...new Set(last.map(({ name }) => name))];
  const shown = names.slice(0, 5).join(", ") + (names.length > 5 ? ", ..." : "");
  return `${workers.join(", ")} ${workers.length === 1 ? "has" : "have"} the last ready replica of ${shown}`;
}

/** What became of requests that had not ended in time. */
export function cutText(worker: string, cutOff: number): string {
  const were = cutOff === 1 ? "was" : "were";
  return `${worker}: ${count(cutOff, "request")} had not ended by the deadline and ${were} ended`;
}

/** The time of day here, with the date where it is another day. */
export function clockTime(date: string): string {
  const at = new Date(date);
  if (Number.isNaN(at.getTime())) return "?";
  const two = (n: number) => String(n).padStart(2, "0");
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  const isToday = at.toDateString() === new Date().toDateString();
  if (isToday) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}
