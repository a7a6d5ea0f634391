/** `llmnode sim`: a simulated engine, for trying things out, load tests and fault drills. */

import { LlmnodeError } from "../../protocol/errors.ts";
import {
  FAILS,
  LIKE_PORTS,
  LIKES,
  type LoraAdapter,
  type SimOptions,
} from "../../sim/core/options.ts";
import { createLog } from "../../util/log.ts";
import { parseDuration } from "../../util/units.ts";
import { type Options, parseBytes } from "../base/options.ts";
import { runDaemon } from "../daemon/shutdown.ts";
import type { CommandSpec } from "../base/spec.ts";
import { FAULT_OPTIONS, SIM_OPTIONS } from "./sim-options.ts";

const TOKENS = { min: 1, max: Number.MAX_SAFE_INTEGER };

export const simCommand: CommandSpec = {
  name: "sim",
  usage: "sim --model <name> [options]",
  summary: "run a simulated engine: speaks like vLLM and others, no GPU, no model, made-up text",
  isDaemon: true,
  details: [
    "Its text is a pure function of model, prompt and position, and says that it is simulated.",
    "A token is four bytes of text.",
    "With --like it has the routes, shapes, errors, streams and metrics of another engine.",
  ],
  options: [...SIM_OPTIONS, ...FAULT_OPTIONS],
  examples: [
    "llmnode sim --model demo",
    "llmnode sim --model demo --port 0 --ttft 300ms --itl 20ms",
    "llmnode sim --model demo --load-time 20s --crash-after 500",
    "llmnode sim --model demo --like ollama",
  ],
  async run({ options }, terminal) {
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

/** The options as `startSim` takes them, but for where its lines go. Throws `usage`. */
export function readSim(options: Options): Omit<SimOptions, "print"> {
  const models = options.texts("model");
  if (models.length === 0) {
    throw new LlmnodeError("usage", "sim needs a model name: llmnode sim --model demo");
  }
  const needed = <T>(flag: string, value: T | null): T => {
    if (value === null) throw new Error(`--${flag} has no default`);
    return value;
  };
  const like = options.choice("like", LIKES);
  return {
    models,
    like,
    adapters: options.texts("lora").map((text) => readAdapter(text, models, options)),
    host: needed("host", options.text("host")),
    port: options.integer("port", { min: 0, max: 65_535 }) ?? LIKE_PORTS[like],
    ttftMs: needed("ttft", options.durationMs("ttft")),
    itlMs: needed("itl", options.durationMs("itl")),
    itlPerSeqMs: options.durationMs("itl-per-seq") ?? 0,
    prefillRate: options.integer("prefill-rate", TOKENS),
    maxNumSeqs: options.integer("max-num-seqs", TOKENS),
    kvTokens: options.integer("kv-tokens", TOKENS),
    loadTimeMs: needed("load-time", options.durationMs("load-time")),
    crashAfterTokens: options.integer("crash-after", TOKENS),
    crashOnText: options.text("crash-on-text"),
    dieMidStreamTokens: options.integer("die-mid-stream", TOKENS),
    maxModelLen: needed("max-model-len", options.integer("max-model-len", TOKENS)),
    noDone: options.isOn("no-done"),
    refuseStreamOptions: options.isOn("refuse-stream-options"),
    errorRate: needed("error-rate", options.number("error-rate", { min: 0, max: 1 })),
    errorInStreamTokens: options.integer("error-in-stream", TOKENS),
    silenceMs: needed("silence", options.durationMs("silence")),
    keepAliveMs: options.durationMs("keep-alive"),
    healthTimeMs: options.durationMs("slow-health") ?? options.durationMs("health-time"),
    ...readFaults(options),
  };
}

function readFaults(options: Options) {
  return {
    ignoreTerm: options.isOn("ignore-term"),
    killOnTerm: options.isOn("kill-on-term"),
    exitCode: options.integer("exit-code", { min: 0, max: 255 }),
    exitAfterMs: options.durationMs("exit-after"),
    fail: options.isGiven("fail") ? options.choice("fail", FAILS) : null,
    ...readHang(options),
    healthLies: options.isOn("health-lies"),
    spamLog: readSpam(options),
    bindLateMs: options.durationMs("bind-late") ?? 0,
    boundOnlyMs: options.durationMs("bound-not-listening") ?? 0,
    resetWhileLoading: options.isOn("reset-while-loading"),
    idleCloseS: options.integer("idle-close", { min: 1, max: 255 }),
    forkChild: options.isOn("fork-child"),
    setsidChild: options.isOn("setsid-child"),
    redrawProgress: options.isOn("progress-bar"),
  };
}

/** A bare number counts requests, one with a unit is a time. */
function readHang(options: Options): Pick<SimOptions, "hangAfterMs" | "hangAfterRequests"> {
  const text = options.text("hang-after");
  if (text === null) return { hangAfterMs: null, hangAfterRequests: null };
  if (/^\d{1,15}$/.test(text)) return { hangAfterMs: null, hangAfterRequests: Number(text) };
  const hangAfterMs = parseDuration(text);
  if (hangAfterMs !== null) return { hangAfterMs, hangAfterRequests: null };
  throw options.invalid("hang-after", "a duration such as 10s, or a number of requests");
}

function readSpam(options: Options): SimOptions["spamLog"] {
  const text = options.text("spam-log");
  if (text === null) return null;
  const perSecond = text.endsWith("/s");
  const bytes = parseBytes(perSecond ? text.slice(0, -2) : text);
  if (bytes === null) throw options.invalid("spam-log", "a size such as 100MB, or 10MB/s");
  return { bytes, perSecond };
}

function readAdapter(text: string, models: readonly string[], options: Options): LoraAdapter {
  const [, name, base] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || base === undefined || !models.includes(base)) {
    throw options.invalid("lora", "name=model with one of the models");
  }
  return { name, base };
}
