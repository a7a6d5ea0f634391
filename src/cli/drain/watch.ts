/** Follows orders about workers to their end, with what happens on stderr. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { sleep } from "../../util/sleep.ts";
import { getJson, type HeadClient } from "../client/api.ts";
import {
  cutText,
  type EndedView,
  firstText,
  type OrdersView,
  type OrderView,
  progressText,
  readOrders,
} from "./view.ts";
import type { Terminal } from "../base/terminal.ts";

export interface WatchOptions {
  client: HeadClient;
  terminal: Terminal;
  /** As the head answered the order. */
  orders: readonly OrderView[];
  /** Ends the watching; the head goes on. */
  signal: AbortSignal;
  pollMs?: number;
  /** The least time between two lines about one worker that say how far it is. */
  sayEveryMs?: number;
  /** How long after its deadline a drain may take to show that nothing runs any more. */
  graceMs?: number;
}

/** How an order ended, for the exit code; `open`: the watching was interrupted. */
export type Followed = "done" | "late" | "failed" | "open";

interface Following {
  order: OrderView;
  followed: Followed;
  reported: string;
  reportedAt: number;
}

/** One word for each order. Throws what the head answers, but waits for a head that is away. */
export async function watchOrders(options: WatchOptions): Promise<Followed[]> {
  const { terminal, client, signal } = options;
  const say = (line: string) => terminal.err.write(`${line}\n`);
  const following = options.orders.map((order): Following => {
    // That one has been there for a while is told by the caller.
    if (!order.isOld || order.inFlight > 0) say(firstText(order));
    return {
      order,
      followed: "open",
      reported: progressText(order),
      reportedAt: performance.now(),
    };
  });
  let isAway = false;
  for (;;) {
    const view = await ordersNow(client);
    if (signal.aborted) break;
    if (view === null && !isAway) say("(the head does not answer; waiting until it is back)");
    isAway = view === null;
    for (const one of following) {
      if (one.followed === "open" && view !== null) look(one, view, { ...options, say });
    }
    if (following.every(({ followed }) => followed !== "open")) break;
    await sleep(options.pollMs ?? 500, signal);
    if (signal.aborted) break;
  }
  return following.map(({ followed }) => followed);
}

/** Null: the head is away, and may be back later. */
async function ordersNow(client: HeadClient): Promise<OrdersView | null> {
  try {
    return readOrders(await getJson(client, "/api/v1/workers/drains"));
  } catch (error) {
    if (error instanceof LlmnodeError && error.code === "head_unreachable") return null;
    throw error;
  }
}

function look(
  one: Following,
  view: OrdersView,
  options: WatchOptions & { say: (line: string) => void },
): void {
  const { say } = options;
  const current = view.orders.find(({ id }) => id === one.order.id);
  if (!current) {
    one.followed = conclude(
      one.order,
      view.ended.find(({ id }) => id === one.order.id),
      say,
    );
    return;
  }
  const stageChanged = current.stage !== one.order.stage;
  one.order = current;
  if (current.purpose === "drain") {
    const end = drainEnd(current, options.graceMs ?? 30_000);
    if (end !== null) {
      one.followed = end.followed;
      for (const line of end.lines) say(line);
      return;
    }
  }
  const text = progressText(current);
  const now = performance.now();
  if (!stageChanged && now - one.reportedAt < (options.sayEveryMs ?? 5000)) return;
  if (text === one.reported) return;
  one.reported = text;
  one.reportedAt = now;
  say(stageChanged && current.stage === "draining" ? firstText(current) : text);
}

/** An order that is no more. */
function conclude(
  { worker, purpose }: OrderView,
  ended: EndedView | undefined,
  say: (line: string) => void,
): Followed {
  if (ended && ended.cutOff > 0) say(cutText(worker, ended.cutOff));
  if (ended?.outcome === "restarted") {
    say(`${worker}: restarted, it takes requests again`);
    return "done";
  }
  if (ended?.outcome === "failed") {
    say(`${worker}: the ${purpose} failed: ${ended.reason ?? "the head does not say why"}`);
    return "failed";
  }
  say(`${worker}: the ${purpose} was taken back meanwhile`);
  return "failed";
}

/** Null while something runs there. */
function drainEnd(
  { worker, state, inFlight, cutOff, deadline }: OrderView,
  graceMs: number,
): { followed: Followed; lines: string[] } | null {
  const lines = cutOff > 0 ? [cutText(worker, cutOff)] : [];
  const isLate = deadline !== null && Date.now() >= Date.parse(deadline) + graceMs;
  // The head sees a moment later that nothing runs any more.
  if (inFlight === 0 && (isLate || state !== "draining")) {
    const isThere = state === "drained";
    lines.push(`${worker}: drained${isThere ? "" : ` (it is ${state ?? "not here"})`}`);
    return { followed: cutOff > 0 ? "late" : "done", lines };
  }
  if (!isLate) return null;
  return { followed: "late", lines: [`${worker}: still ${inFlight} in flight after the deadline`] };
}
