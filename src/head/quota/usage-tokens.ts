/** What a finished request has cost in tokens: by the engine's word, else estimated and marked. */

import type { RequestRecord } from "../../proxy/record/record.ts";
import { soundCount } from "../../proxy/record/record-facts.ts";
import type { UsageSums } from "./usage-file.ts";

/** As the router counts them, until an engine says better. */
const BYTES_PER_TOKEN = 4;
/** Operations whose bodies are prompts. */
const READING: ReadonlySet<string> = new Set([
  "chat",
  "text_completion",
  "embeddings",
  "rerank",
  "score",
  "classify",
  "pooling",
  "moderation",
]);
/** Operations whose answers are tokens. */
const WRITING: ReadonlySet<string> = new Set(["chat", "text_completion"]);

/** How many tokens so many bytes of a prompt are, about. */
export function estimatedTokens(bytes: number): number {
  return Math.ceil(bytes / BYTES_PER_TOKEN);
}

/** Whether a request of this kind has tokens that can be estimated from its bytes. */
export function readsPrompt(operation: string): boolean {
  return READING.has(operation);
}

/** Whether its answer is tokens. */
export function writesTokens(operation: string): boolean {
  return WRITING.has(operation);
}

export function tokensOf(record: RequestRecord): Omit<UsageSums, "requests" | "errors"> {
  const { usage, operation, usageEstimated } = record;
  const worked = hasWorked(record);
  const reportedInput = soundCount(usage?.input);
  const reportedOutput = soundCount(usage?.output);
  const guessedInput =
    worked && READING.has(operation) ? estimatedTokens(record.promptBytes ?? record.bytesIn) : 0;
  const guessedOutput = worked && record.stream && WRITING.has(operation) ? record.chunks : 0;
  const input = reportedInput ?? guessedInput;
  const output = reportedOutput ?? guessedOutput;
  const estimatedOutput = reportedOutput === null || usageEstimated ? output : 0;
  return {
    input,
    cachedInput: Math.min(input, soundCount(usage?.cachedInput) ?? 0),
    output,
    estimated: (reportedInput === null ? input : 0) + estimatedOutput,
  };
}

/** Whether an engine has done something for it: a client that left may have left that behind. */
function hasWorked({ status, firstByteMs, attempts }: RequestRecord): boolean {
  if (firstByteMs !== null) return true;
  return status === 499 ? attempts.length > 0 : status < 400;
}
