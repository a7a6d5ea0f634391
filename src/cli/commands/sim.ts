/** `llmnode sim`: a simulated engine, for trying things out, load tests and fault drills. */

import { usage } from "../base/messages.ts";
import { createLog } from "../../util/log.ts";
import { cleanLine } from "../../util/text.ts";
import { EXIT } from "../base/exit-codes.ts";
import { runDaemon } from "../daemon/shutdown.ts";
import type { CommandSpec } from "../base/spec.ts";
import { faultLines } from "../sim/faults.ts";
import { readSim, SIM_OPTIONS } from "../sim/options.ts";

export const simCommand: CommandSpec = {
  name: "sim",
  usage: "sim --model <name> [options] | sim faults",
  summary: "run a simulated engine: speaks like vLLM and others, no GPU, no model, made-up text",
  isDaemon: true,
  details: [
    "Its text is a pure function of model, prompt and position, and says that it is simulated.",
    "A token is four bytes of text.",
    "With --like it has the routes, shapes, errors, streams and metrics of another engine.",
    "With --fault NAME[=VALUE] something goes wrong with it: `llmnode sim faults` lists the names.",
  ],
  argument: { name: "action", required: false, words: ["faults"] },
  options: [...SIM_OPTIONS],
  examples: [
    "llmnode sim --model demo",
    "llmnode sim --model demo --port 0 --ttft 300ms --itl 20ms",
    "llmnode sim --model demo --load-time 20s --fault crash-after=500",
    "llmnode sim --model demo --like ollama",
    "llmnode sim faults",
  ],
  async run({ words, options }, terminal) {
    if (words[0] === "faults") {
      terminal.out.write(`${faultLines().join("\n")}\n`);
      return EXIT.ok;
    }
    if (words[0] !== undefined)
      throw usage(`sim: unexpected argument "${cleanLine(words[0], 80)}"`);
    const wanted = readSim(options);
    const { startSim } = await import("../../sim/sim.ts");
    const log = createLog({
      isTty: terminal.errIsTty,
      color: terminal.errIsTty && terminal.color && !options.isOn("no-color"),
      write: (line) => terminal.err.write(line),
    });
    const starting = new AbortController();
    if (wanted.killOnTerm) process.on("SIGTERM", () => process.kill(process.pid, "SIGKILL"));
    return runDaemon({
      log,
      start: () =>
        startSim({ ...wanted, print: (line) => terminal.out.write(`${line}\n`) }, starting.signal),
      abandonStart: starting,
      started: () => undefined,
      farewell: () => "the simulated engine stops",
      ignore: wanted.ignoreTerm ? ["SIGTERM"] : [],
    });
  },
};
