/** `llmnode restart`: a worker's engine starts anew without losing a request. */

import { createInterface } from "node:readline";
import { LlmnodeError } from "../../protocol/errors.ts";
import { followOrder, ORDER_OPTIONS, sendOrder } from "../drain/order.ts";
import { lastText } from "../drain/view.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { CommandSpec } from "../base/spec.ts";
import type { Terminal } from "../base/terminal.ts";

export const restartCommand: CommandSpec = {
  name: "restart",
  usage: "restart <worker>... [--yes|--no-input] [--deadline <duration>] [--no-wait] [-m <text>]",
  summary: "drain a worker, restart its engine, and give it requests again",
  details: [
    "Several workers: one after the other, and no further where one fails. The head does it: it goes",
    "on when this command or the head itself ends; `llmnode undrain` stops it. Requests for a model",
    "that has no other ready replica wait meanwhile, which is asked about first.",
  ],
  argument: { name: "worker", required: true, repeats: true },
  options: [
    ...ORDER_OPTIONS,
    { flag: "yes", summary: "do not ask, also where a model has no other ready replica" },
    { flag: "no-input", summary: "never ask: refuse where a person would be asked" },
  ],
  examples: ["llmnode restart gpu-03", "llmnode restart gpu-01 gpu-02 gpu-03 -m weights"],
  async run(invocation, terminal) {
    const how = { invocation, terminal, purpose: "restart" } as const;
    let force = invocation.options.isOn("yes");
    if (!force) {
      const { view } = await sendOrder(how, { force, dryRun: true });
      const last = lastText(view.last);
      if (last !== null) {
        if (invocation.options.isOn("no-input") || !canAsk(terminal)) {
          throw new LlmnodeError("refused", last, {
            hints: ["restart it all the same, its requests wait meanwhile:   --yes"],
          });
        }
        const question = `${last}: requests wait until it is back. Restart?`;
        if (!(await confirm(terminal, question))) {
          terminal.err.write("nothing was restarted\n");
          return EXIT.refused;
        }
        force = true;
      }
    }
    return followOrder(how, await sendOrder(how, { force, dryRun: false }));
  },
};

/** Whether there is a person to ask. */
function canAsk(terminal: Terminal): boolean {
  return process.stdin.isTTY === true && terminal.errIsTty;
}

/** Anything but `y` or `yes` is a no, and so is the end of the input. */
async function confirm(terminal: Terminal, question: string): Promise<boolean> {
  terminal.err.write(`${question} [y/N] `);
  await terminal.err.flush();
  const lines = createInterface({ input: process.stdin });
  const answered = Promise.withResolvers<string>();
  lines.once("line", answered.resolve);
  lines.once("close", () => answered.resolve(""));
  const answer = await answered.promise;
  lines.close();
  process.stdin.pause();
  return /^y(es)?$/i.test(answer.trim());
}
