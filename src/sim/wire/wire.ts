/** What every format of an answer must be able to say, and the words they share. */

/** `abort`: the engine stops. Formats that have no word of their own for one take their nearest. */
export type FinishReason = "stop" | "length" | "abort" | "tool_calls";

export interface Usage {
  promptTokens: number;
  completionTokens: number;
  /** Prompt tokens that were found in the cache; null where that is not shown. */
  cachedTokens: number | null;
}

/** All of an answer in figures. */
export interface Summary extends Usage {
  /** Output tokens of each choice. */
  produced: readonly number[];
  /** From the request to its first token, and from that to the last. */
  prefillMs: number;
  decodeMs: number;
}

export interface ToolCall {
  id: string;
  name: string;
  /** JSON text. */
  arguments: string;
}

/** A token that is no plain text of the answer. */
export type Piece =
  | { channel: "reasoning"; text: string }
  /** A part of a call's arguments; `opens` is set on the first one of each call. */
  | { channel: "call"; call: number; opens: ToolCall | null; text: string };

/** One choice of a whole answer. */
export interface FinishedChoice {
  text: string;
  /** The tokens of `text`. */
  tokens: string[];
  reason: FinishReason;
  /** Null where the model was not asked to think. */
  reasoning: string | null;
  calls: ToolCall[];
}

/**
 * One answer's way of being written; made for each request, may keep state. Everything returns text
 * that is sent as it is, "" for nothing. `usage` is given where the client asked for it in every
 * frame.
 */
export interface Wire {
  contentType: string;
  /** Before anything else, with what was found in the cache. */
  begin?(cachedTokens: number | null): void;
  /** Once for each choice, before its first token. */
  opening?(choice: number, usage: Usage | null): string;
  /** `text` needs no JSON escapes: on the hot path nothing is serialised. */
  token(choice: number, text: string, usage: Usage | null): string;
  /** Missing where the format has no place for thoughts and calls. */
  piece?(choice: number, piece: Piece, usage: Usage | null): string;
  finish(choice: number, reason: FinishReason, usage: Usage | null): string;
  /** After the last choice; with `noDone` without the mark that tells clients of the end. */
  end(summary: Summary, noDone: boolean): string;
  /** In the place of all that was still to come. */
  error(error: unknown, noDone: boolean): string;
  /** The body of the answer that is not streamed. */
  whole(choices: FinishedChoice[], summary: Summary): object;
}

export const SSE = "text/event-stream; charset=utf-8";
export const DONE = "data: [DONE]\n\n";

/** A server-sent event of one JSON value. */
export function dataFrame(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

/** The same with a name, which its own `type` field repeats. */
export function namedFrame(value: { type: string } & Record<string, unknown>): string {
  return `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
}

/** What stands around a value in JSON that is otherwise constant, so that only the value changes. */
export function around(value: object, hole: string): [before: string, after: string] {
  const text = JSON.stringify(value);
  const at = text.lastIndexOf(hole);
  if (at < 0) throw new Error(`no ${hole} in ${text}`);
  return [text.slice(0, at), text.slice(at + hole.length)];
}

/**
 * The same text in one piece. What is glued together stays a tree of its parts until somebody reads
 * it; a part of every token's frame would be walked through each time.
 */
export function flat(text: string): string {
  return text.charCodeAt(0) > 0 ? text : "";
}
