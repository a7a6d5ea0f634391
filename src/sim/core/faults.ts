/** The faults that an engine is configured to have, and when they strike. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { SimOptions } from "./options.ts";
import type { Prompt } from "./prompt.ts";

export interface Fault {
  /** `crash`: the process dies; `cut`: the connection is reset; `error`: the engine says it failed. */
  kind: "crash" | "cut" | "error";
  /** Output tokens of the request, all choices together, after which it strikes. */
  afterTokens: number;
}

/** What vLLM prints when its GPU process dies of a kernel; others print much the same. */
export const GPU_FAULT_LINES = [
  "(EngineCore pid=7) ERROR EngineCore encountered a fatal error.",
  "(EngineCore pid=7) ERROR torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
  "(APIServer pid=1) ERROR vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.",
];

/** The fault that an answer will meet first, if any. Only streams can be cut. */
export function faultOf(options: SimOptions, stream: boolean): Fault | null {
  const faults: Fault[] = [];
  const add = (kind: Fault["kind"], afterTokens: number | null) => {
    if (afterTokens !== null) faults.push({ kind, afterTokens });
  };
  add("crash", options.crashAfterTokens);
  if (stream) add("cut", options.dieMidStreamTokens);
  add("error", options.errorInStreamTokens);
  return faults.sort((a, b) => a.afterTokens - b.afterTokens)[0] ?? null;
}

/** Whether the engine dies of one of these prompts. */
export function isPoison({ crashOnText }: SimOptions, prompts: readonly Prompt[]): boolean {
  return crashOnText !== null && prompts.some(({ text }) => text.includes(crashOnText));
}

/** Throws the simulated 500 for the share of requests that `errorRate` asks for. */
export function maybeFail(options: SimOptions): void {
  if (options.errorRate > 0 && (options.random ?? Math.random)() < options.errorRate) {
    throw simulatedFailure();
  }
}

export function simulatedFailure(): LlmnodeError {
  return new LlmnodeError("internal", "Internal server error (simulated)");
}
