/** What a client got: whether a stream is the whole answer, byte for byte, and nothing else. */

import { chatPrompt } from "../../src/sim/core/prompt.ts";
import { originOf, textOf } from "../../src/sim/core/text.ts";

export const MODEL = "demo";

/** The head's mark at the place where a stream went on elsewhere. */
const RESUMED = ": llmnode-resumed";

export interface Question {
  /** The text of the one user message. */
  content: string;
  /** The answer has exactly so many tokens. */
  tokens: number;
}

export interface Judgement {
  /** `wrong`: it looks whole, but is not the answer. */
  kind: "whole" | "wrong" | "error";
  /** Why it is not whole. */
  why: string;
  resumed: boolean;
}

interface Frame {
  id?: string;
  model?: string;
  choices?: Array<{
    delta?: { role?: string | null; content?: string | null };
    finish_reason?: string | null;
  }>;
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  error?: { message?: string; code?: unknown };
}

export function bodyOf({ content, tokens }: Question): string {
  return JSON.stringify({
    model: MODEL,
    messages: messagesOf(content),
    max_tokens: tokens,
    stream: true,
    stream_options: { include_usage: true },
  });
}

/** The simulated engine's answer is a function of the prompt alone. */
export function answerTo({ content, tokens }: Question): string {
  const prompt = chatPrompt({ messages: messagesOf(content) });
  return textOf(originOf(MODEL, prompt.text), tokens);
}

/** All bytes of a stream that ended without a broken connection. */
export function judgeStream(bytes: string, question: Question): Judgement {
  const resumed = bytes.includes(RESUMED);
  const is = (kind: Judgement["kind"], why: string): Judgement => ({ kind, why, resumed });
  const events = bytes
    .split("\n\n")
    .flatMap((event) => event.split("\n"))
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice("data:".length).trim());
  const done = events.filter((event) => event === "[DONE]").length;
  const frames: Frame[] = [];
  for (const event of events.filter((one) => one !== "[DONE]")) {
    const frame = parse(event);
    if (frame === null) return is("error", `a frame that is no JSON: ${event.slice(0, 80)}`);
    frames.push(frame);
  }
  const failed = frames.find((frame) => frame.error);
  if (failed) {
    const { code, message } = failed.error ?? {};
    return is("error", `error event ${String(code)}: ${message ?? ""}`);
  }
  if (done === 0) return is("error", "the stream ended without [DONE]");
  const wrong = wrongIn(frames, question);
  if (wrong !== null) return is("wrong", wrong);
  if (done > 1) return is("wrong", `${done} times [DONE]`);
  return events.at(-1) === "[DONE]" ? is("whole", "") : is("wrong", "something after [DONE]");
}

function wrongIn(frames: readonly Frame[], question: Question): string | null {
  const ids = new Set(frames.map((frame) => frame.id));
  if (ids.size !== 1) return `${ids.size} ids in one stream`;
  const choices = frames.flatMap((frame) => frame.choices ?? []);
  const roles = choices.filter((choice) => choice.delta?.role).length;
  if (roles !== 1) return `${roles} role deltas`;
  const text = choices.map((choice) => choice.delta?.content ?? "").join("");
  const wanted = answerTo(question);
  if (text !== wanted) return `text differs at byte ${firstDifference(text, wanted)}`;
  const reasons = choices.flatMap((choice) => choice.finish_reason ?? []);
  if (reasons.join() !== "length") return `finish reasons "${reasons.join()}"`;
  const usages = frames.flatMap((frame) => frame.usage ?? []);
  const told = usages.map((usage) => usage.completion_tokens).join();
  return told === String(question.tokens) ? null : `usage tells "${told}" tokens`;
}

function firstDifference(text: string, wanted: string): number {
  let at = 0;
  while (at < wanted.length && text[at] === wanted[at]) at += 1;
  return at;
}

function parse(text: string): Frame | null {
  try {
    return JSON.parse(text);
  } catch {
    return null; // the caller says so
  }
}

function messagesOf(content: string): Array<{ role: string; content: string }> {
  return [{ role: "user", content }];
}
