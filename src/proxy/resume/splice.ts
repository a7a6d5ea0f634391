/** Makes the frames of a continuation those of the answer that it continues. */

import { frameData, lastFrameEnd, splitFrames } from "../record/frames.ts";
import type { ChunkReader } from "../answer/relay.ts";
import { type AnswerSoFar, isNothing } from "./answer.ts";
import type { ResumableBody } from "./body.ts";
import type { Measure } from "./check.ts";
import { isRecord, type JsonRecord, parseJson } from "../../util/json.ts";

/** What a frame of a continuation may have at most. */
const MAX_FRAME_BYTES = 1024 * 1024;
const NOTHING = new Uint8Array();
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What has been answered before a continuation. */
export interface Begun {
  answer: AnswerSoFar;
  /** In tokens, as the engine that continues counts them. */
  produced: number;
}

/** The continuation says what is no more text: thoughts, where the answer was begun already. */
export class OtherContentError extends Error {
  constructor() {
    super("the engine did not go on with the text");
    this.name = "OtherContentError";
  }
}

/**
 * Reads a continuation whose first chunk has been read already, as frames of the answer that has
 * `begun`: with its id, without a second role, with one usage of all. Whole frames only. Throws when
 * a frame does not end, and OtherContentError.
 */
export function spliceReader(reader: ChunkReader, first: Uint8Array, begun: Begun): ChunkReader {
  let held: Uint8Array = NOTHING;
  let next: Uint8Array | null = first;
  const take = async (): Promise<Uint8Array | null> => {
    if (next !== null) {
      const taken = next;
      next = null;
      return taken;
    }
    const { done, value } = await reader.read();
    return done || value === undefined ? null : value;
  };
  return {
    async read() {
      for (;;) {
        const chunk = await take();
        if (chunk === null) return { done: true };
        const data: Uint8Array = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
        const end = lastFrameEnd(data, "sse");
        held = data.subarray(end);
        if (held.length > MAX_FRAME_BYTES) throw new Error("a frame of the stream does not end");
        const frames = splitFrames(data.subarray(0, end), "sse").flatMap((frame) =>
          spliceFrame(frame, begun),
        );
        if (frames.length > 0) return { done: false, value: Buffer.concat(frames) };
      }
    },
  };
}

/** Frames that complete an answer of which nothing more is to be written. */
export function closingFrames(
  { wantsUsage }: ResumableBody,
  { answer, produced }: Begun,
  { prompt }: Pick<Measure, "prompt">,
): Uint8Array {
  const { head } = answer;
  const frames: JsonRecord[] = [];
  if (!answer.isFinished) {
    const isChat = head["object"] === "chat.completion.chunk";
    const content = isChat ? { delta: {} } : { text: "" };
    const choice = { index: 0, ...content, logprobs: null, finish_reason: "length" };
    frames.push({ ...head, choices: [choice] });
  }
  if (wantsUsage && !answer.hasUsage) {
    const usage = {
      prompt_tokens: prompt,
      total_tokens: prompt + produced,
      completion_tokens: produced,
    };
    frames.push({ ...head, choices: [], usage });
  }
  const text = frames.map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join("");
  return encoder.encode(`${text}data: [DONE]\n\n`);
}

/** A reader of bytes that are there, and then of what `rest` reads. */
export function bytesReader(bytes: Uint8Array, rest: ChunkReader | null = null): ChunkReader {
  let isRead = false;
  return {
    read() {
      if (isRead) return rest?.read() ?? Promise.resolve({ done: true });
      isRead = true;
      return Promise.resolve({ done: false, value: bytes });
    },
  };
}

/** No frame or one. Comments, `[DONE]`, errors and what cannot be read pass as they are. */
function spliceFrame(frame: Uint8Array, begun: Begun): Uint8Array[] {
  const [data = ""] = frameData(decoder.decode(frame), "sse");
  const value = parseJson(data);
  if (!isRecord(value) || !Array.isArray(value["choices"])) return [frame];
  const made: JsonRecord = { ...value, ...begun.answer.head };
  const choice: unknown = value["choices"][0];
  if (isRecord(choice)) {
    const spliced = withoutRole(choice, begun.answer);
    if (begun.answer.text !== "" && hasOtherContent(spliced)) throw new OtherContentError();
    if (isNothing(value["usage"]) && saysNothing(spliced)) return [];
    made["choices"] = [spliced];
  }
  if (isRecord(value["usage"])) made["usage"] = wholeUsage(value["usage"], begun.produced);
  return [encoder.encode(`data: ${JSON.stringify(made)}\n\n`)];
}

function withoutRole(choice: JsonRecord, { hasRole }: AnswerSoFar): JsonRecord {
  const { delta } = choice;
  if (!hasRole || !isRecord(delta)) return choice;
  const { role: _, ...rest } = delta;
  return { ...choice, delta: rest };
}

/**
 * Engines that read thoughts out of what a model writes may take the rest of an answer for thoughts,
 * as they do not see where those have ended.
 */
function hasOtherContent({ delta }: JsonRecord): boolean {
  if (!isRecord(delta)) return false;
  const { role: _, content: __, ...rest } = delta;
  return !Object.values(rest).every(isNothing);
}

/** Whether a delta without its role is nothing at all. */
function saysNothing({ delta, finish_reason: reason }: JsonRecord): boolean {
  return isRecord(delta) && reason == null && Object.values(delta).every(isNothing);
}

/** The prompt once, and both parts of the answer. */
function wholeUsage(usage: JsonRecord, produced: number): JsonRecord {
  const { prompt_tokens: input, completion_tokens: output, prompt_tokens_details: details } = usage;
  if (typeof input !== "number" || typeof output !== "number") return usage;
  const prompt = Math.max(0, input - produced);
  const completion = output + produced;
  const made: JsonRecord = {
    ...usage,
    prompt_tokens: prompt,
    total_tokens: prompt + completion,
    completion_tokens: completion,
  };
  if (isRecord(details) && typeof details["cached_tokens"] === "number") {
    const cached = Math.min(details["cached_tokens"], prompt);
    made["prompt_tokens_details"] = { ...details, cached_tokens: cached };
  }
  return made;
}
