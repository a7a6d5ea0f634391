/** `llmnode drain`: no new requests for a worker, and an end for those that run. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { followOrder, ORDER_OPTIONS, sendOrder } from "../drain/order.ts";
import { lastText, oldText } from "../drain/view.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { CommandSpec } from "../base/spec.ts";

export const drainCommand: CommandSpec = {
  name: "drain",
  usage: "drain <worker>... [--deadline <duration>] [--no-wait] [--force] [-m <text>] [--dry-run]",
  summary: "give a worker no new requests and wait until none runs there",
  details: [
    "Requests that have not begun move to other workers; what still runs at the deadline is ended,",
    "and goes on elsewhere where it can. It lasts until `llmnode undrain`, also when the head or the",
    "worker starts again. Exit code 124: requests had not ended by the deadline.",
  ],
  argument: { name: "worker", required: true, repeats: true },
  options: [
    ...ORDER_OPTIONS,
    { flag: "force", summary: "also where a model is left without a ready replica" },
    { flag: "dry-run", summary: "only say what would be drained" },
  ],
  examples: ["llmnode drain gpu-03", "llmnode drain gpu-03 gpu-04 --deadline 2m -m driver"],
  async run(invocation, terminal) {
    const how = { invocation, terminal, purpose: "drain" } as const;
    const force = invocation.options.isOn("force");
    const dryRun = invocation.options.isOn("dry-run");
    if (!dryRun) {
      const sent = await sendOrder(how, { force, dryRun }).catch((error: unknown) => {
        throw withHint(error);
      });
      return followOrder(how, sent);
    }
    const { view } = await sendOrder(how, { force, dryRun });
    const last = lastText(view.last);
    if (last !== null && !force) throw withHint(new LlmnodeError("last_replica", last));
    for (const order of view.orders) {
      const text = `${order.worker}: would be drained, ${order.inFlight} in flight`;
      terminal.err.write(`${order.isOld ? oldText(order) : text}\n`);
    }
    if (last !== null) terminal.err.write(`${last}\n`);
    return EXIT.ok;
  },
};

/** What can be done about a last replica. */
function withHint(error: unknown): unknown {
  if (!(error instanceof LlmnodeError) || error.code !== "last_replica") return error;
  return new LlmnodeError(error.code, error.message, {
    hints: ["drain it all the same, and let requests wait or fail:   --force"],
  });
}
