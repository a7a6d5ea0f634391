/** What `drain` and `restart` have in common: what is sent, what is followed, how it ends. */

import { usage } from "../base/messages.ts";
import { hostname, userInfo } from "node:os";
import { cleanLine } from "../../util/text.ts";
import { type HeadClient, headClient, postJson } from "../client/api.ts";
import { type OrdersView, oldText, readOrders } from "./view.ts";
import { watchOrders } from "./watch.ts";
import { EXIT } from "../base/exit-codes.ts";
import { awaitInterrupt } from "../base/interrupt.ts";
import type { Invocation } from "../base/spec.ts";
import type { Environment, OptionSpec } from "../base/options.ts";
import type { Terminal } from "../base/terminal.ts";
import { nameOthers } from "../client/worker-names.ts";

export const ORDER_OPTIONS: readonly OptionSpec[] = [
  {
    flag: "deadline",
    value: "<duration>",
    default: "10m",
    summary: "how long running requests may go on; those that still run then are ended",
  },
  { flag: "no-wait", summary: "do not wait for the end: the head sees to it" },
  { flag: "message", short: "m", value: "<text>", summary: "why, for those who look at status" },
];

const PATHS = { drain: "/api/v1/workers/drain", restart: "/api/v1/workers/restart" } as const;

export interface OrderOptions {
  invocation: Invocation;
  terminal: Terminal;
  purpose: keyof typeof PATHS;
}

/** Sends the order, or only asks what it would do. Throws `usage`, and what the head answers. */
export async function sendOrder(
  { invocation, purpose }: OrderOptions,
  { force, dryRun }: { force: boolean; dryRun: boolean },
): Promise<{ client: HeadClient; view: OrdersView }> {
  const { options, words } = invocation;
  const deadlineMs = options.durationMs("deadline") ?? 0;
  if (deadlineMs === 0) throw options.invalid("deadline", "more than zero");
  const empty = words.find((word) => word === "");
  if (empty !== undefined) throw usage(`${purpose}: a worker without a name`);
  const message = options.text("message");
  const client = headClient(invocation);
  const body = {
    workers: words,
    deadline_ms: deadlineMs,
    message: message === null ? null : cleanLine(message, 200) || null,
    who: whoAmI(invocation.env),
    force,
    dry_run: dryRun,
  };
  const answer = await postJson(client, PATHS[purpose], body).catch((error: unknown) =>
    nameOthers(error, { client, command: purpose, words }),
  );
  return { client, view: readOrders(answer) };
}

/** Follows what was ordered, unless `--no-wait` says otherwise. The result is the exit code. */
export async function followOrder(
  { invocation, terminal, purpose }: OrderOptions,
  { client, view }: { client: HeadClient; view: OrdersView },
): Promise<number> {
  const say = (line: string) => terminal.err.write(`${line}\n`);
  for (const order of view.orders) if (order.isOld) say(oldText(order));
  if (invocation.options.isOn("no-wait")) {
    for (const order of view.orders) {
      if (!order.isOld) say(`${order.worker}: ${purpose} ordered`);
    }
    return EXIT.ok;
  }
  using interrupt = awaitInterrupt();
  const ends = await watchOrders({
    client,
    terminal,
    orders: view.orders,
    signal: interrupt.signal,
  });
  const open = view.orders.filter((_, i) => ends[i] === "open").map(({ worker }) => worker);
  if (open.length > 0) {
    const names = open.join(" ");
    say(`the head goes on with this ${purpose} (undo: llmnode undrain ${names})`);
    return interrupt.code;
  }
  if (ends.includes("failed")) return EXIT.failure;
  return ends.includes("late") ? EXIT.deadline : EXIT.ok;
}

/** How the head and others call who ordered it. */
export function whoAmI(env: Environment): string {
  return cleanLine(`${env["USER"] || env["LOGNAME"] || userName()}@${hostname()}`, 200);
}

function userName(): string {
  try {
    const { username, uid } = userInfo();
    // Bun has only the environment to know names from, and services and cron set none.
    return username === "unknown" ? `uid-${uid}` : username;
  } catch {
    return "somebody"; // an id without an entry in the list of users, as in containers
  }
}
