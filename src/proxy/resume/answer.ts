/** Reads from the frames of a broken stream what has been answered so far, and that it is broken. */

import { holds } from "../../util/flow/bytes.ts";
import { errorIn } from "../answer/first-frame.ts";
import { frameData, lastFrameEnd, splitFrames } from "../record/frames.ts";
import type { ResumeKind } from "./body.ts";
import { isRecord, type JsonRecord, parseJson } from "../../util/json.ts";

/** What the client has of the answer. */
export interface AnswerSoFar {
  /** What every frame of the stream repeats, as the first one has it. */
  head: JsonRecord;
  text: string;
  /** Whether a frame has said whose the message is. */
  hasRole: boolean;
  /** Whether a frame has said how the answer ended. */
  isFinished: boolean;
  /** Whether the frame of usage has come. */
  hasUsage: boolean;
}

/** What a continued answer takes over from the first frame. */
const HEAD_FIELDS = ["id", "object", "created", "model"];
const decoder = new TextDecoder();

/**
 * The answer in the whole frames of `bytes`; null where there is more to it than one text: thoughts,
 * calls of tools, log probabilities, several choices, or anything that is not known here.
 */
export function readAnswer(kind: ResumeKind, bytes: Uint8Array): AnswerSoFar | null {
  const whole = bytes.subarray(0, lastFrameEnd(bytes, "sse"));
  const answer: AnswerSoFar = {
    head: {},
    text: "",
    hasRole: false,
    isFinished: false,
    hasUsage: false,
  };
  for (const [i, data] of frameData(decoder.decode(whole), "sse").entries()) {
    const frame = parseJson(data);
    if (!isRecord(frame) || !readFrame(kind, frame, answer)) return null;
    if (i === 0) answer.head = headOf(frame);
  }
  return typeof answer.head["id"] === "string" ? answer : null;
}

function headOf(frame: JsonRecord): JsonRecord {
  return Object.fromEntries(
    HEAD_FIELDS.flatMap((name) => (frame[name] === undefined ? [] : [[name, frame[name]]])),
  );
}

/** False where the frame says what cannot be continued. */
function readFrame(kind: ResumeKind, frame: JsonRecord, answer: AnswerSoFar): boolean {
  const { choices } = frame;
  if (!Array.isArray(choices) || choices.length > 1) return false;
  if (isRecord(frame["usage"])) answer.hasUsage = true;
  const choice: unknown = choices[0];
  if (choice === undefined) return true;
  if (!isRecord(choice) || (choice["index"] ?? 0) !== 0 || !isNothing(choice["logprobs"])) {
    return false;
  }
  if (choice["finish_reason"] != null) answer.isFinished = true;
  const text = kind === "chat" ? deltaText(choice["delta"], answer) : choice["text"];
  if (typeof text !== "string") return false;
  answer.text += text;
  return true;
}

/** The text of a delta; null where it carries anything else. */
function deltaText(delta: unknown, answer: AnswerSoFar): string | null {
  if (delta == null) return "";
  if (!isRecord(delta)) return null;
  const { role, content, ...rest } = delta;
  if (role != null) answer.hasRole = true;
  if (!Object.values(rest).every(isNothing)) return null;
  return content == null ? "" : typeof content === "string" ? content : null;
}

/** How engines say that a field of theirs has nothing in it. */
export function isNothing(value: unknown): boolean {
  return value == null || value === "" || (Array.isArray(value) && value.length === 0);
}

const ERROR = Buffer.from('"error"');
const ABORT = Buffer.from('"abort"');

/**
 * Where in `chunk` the frame begins by which the engine says that it has failed, -1 when there is none.
 * An engine whose model process died says so in its stream and ends it in order, and one that is
 * told to stop ends its answers with the reason `abort`. Not seen where the frame comes in pieces.
 */
export function failureAt(chunk: Uint8Array): number {
  if (!holds(chunk, ERROR) && !holds(chunk, ABORT)) return -1;
  let at = 0;
  for (const frame of splitFrames(chunk, "sse")) {
    if (isFailure(frame)) return at;
    at += frame.length;
  }
  return -1;
}

function isFailure(frame: Uint8Array): boolean {
  // Whatever its code: what is wrong with a request is said before its answer begins.
  if (errorIn(frame, { format: "sse", dialect: "openai" }) !== null) return true;
  const [data = ""] = frameData(decoder.decode(frame), "sse");
  const value = parseJson(data);
  const choice: unknown =
    isRecord(value) && Array.isArray(value["choices"]) ? value["choices"][0] : null;
  return isRecord(choice) && choice["finish_reason"] === "abort";
}
