/** Makes the frames of a continuation those of the answer that it continues. */

import { frameData, lastFrameEnd, splitFrames } from "../record/frames.ts";
import { type AttemptFailure } from "../answer/failure.ts";
import { errorIn, FirstFrame } from "../answer/first-frame.ts";
import type { BodySink, GoingOn } from "../answer/relay.ts";
import { formatOf } from "../record/frames.ts";
import type { AnswerHead, AnswerSink } from "../../util/http/exchange.ts";
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

/** How a continuation begins. */
export type Beginning =
  | { kind: "text"; bytes: Uint8Array }
  /** The answer is no stream of events with status 200. */
  | { kind: "status"; status: number }
  /** The first frame is an error. */
  | { kind: "refusal"; failure: AttemptFailure }
  /** It ended before it began. */
  | { kind: "nothing" };

/**
 * Takes a continuation as frames of the answer that has `begun`: with its id, without a second role,
 * with one usage of all. Whole frames only. What comes behind the first text is held until somebody
 * takes it; the exchange is to be paused meanwhile.
 */
export class SplicedAnswer implements AnswerSink, GoingOn {
  first: Uint8Array = NOTHING;
  readonly #begun: Begun;
  readonly #beginning = Promise.withResolvers<Beginning>();
  readonly #firstFrame = new FirstFrame("sse");
  #hasFirst = false;
  /** Of a frame that has not ended. */
  #rest: Uint8Array = NOTHING;
  #sink: BodySink | null = null;
  /** What came before there was a sink. */
  #held: ((sink: BodySink) => void)[] = [];

  constructor(begun: Begun) {
    this.#begun = begun;
  }

  /** Up to the first text: what is no text would be noticed too late otherwise. Rejects as `fail` tells, and with OtherContentError. */
  get beginning(): Promise<Beginning> {
    return this.#beginning.promise;
  }

  begin(sink: BodySink): void {
    this.#sink = sink;
    for (const say of this.#held.splice(0)) say(sink);
  }

  head(head: AnswerHead): void {
    if (head.status === 200 && formatOf(head) === "sse") return;
    this.#beginning.resolve({ kind: "status", status: head.status });
  }

  data(bytes: Uint8Array): void {
    if (this.#hasFirst) return this.#take(bytes);
    const first = this.#firstFrame.add(bytes);
    if (first === null) return;
    this.#hasFirst = true;
    const failure = errorIn(first, { format: "sse", dialect: "openai" });
    if (failure === null) this.#take(first);
    else this.#beginning.resolve({ kind: "refusal", failure });
  }

  end(): void {
    this.#beginning.resolve({ kind: "nothing" });
    this.#say((sink) => sink.end());
  }

  fail(error: unknown): void {
    this.#beginning.reject(error);
    this.#say((sink) => sink.fail(error));
  }

  #take(bytes: Uint8Array): void {
    const data: Uint8Array = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    const end = lastFrameEnd(data, "sse");
    this.#rest = data.subarray(end);
    try {
      if (this.#rest.length > MAX_FRAME_BYTES) {
        throw new Error("a frame of the stream does not end");
      }
      const frames = splitFrames(data.subarray(0, end), "sse").flatMap((frame) =>
        spliceFrame(frame, this.#begun),
      );
      if (frames.length > 0) this.#pass(Buffer.concat(frames));
    } catch (error) {
      this.fail(error);
    }
  }

  #pass(bytes: Uint8Array): void {
    if (this.first.length > 0) return this.#say((sink) => sink.data(bytes));
    this.first = bytes;
    this.#beginning.resolve({ kind: "text", bytes });
  }

  #say(what: (sink: BodySink) => void): void {
    if (this.#sink === null) this.#held.push(what);
    else what(this.#sink);
  }
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

/** Goes on with these bytes, and that is all. */
export function whole(bytes: Uint8Array): GoingOn {
  return { first: bytes, begin: (sink) => sink.end() };
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
