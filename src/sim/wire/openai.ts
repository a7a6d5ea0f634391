/** OpenAI's chat and completion answers, in the manner of each engine that gives them. */

import {
  DONE,
  flat,
  SSE,
  type FinishedChoice,
  type FinishReason,
  type Piece,
  type Summary,
  type Usage,
  type Wire,
} from "./wire.ts";

export type AnswerKind = "chat" | "completion";

/** What all frames of one answer repeat. `created` is in seconds. */
export interface AnswerHead {
  kind: AnswerKind;
  id: string;
  created: number;
  model: string;
}

/** JSON around one token: `{"index":0` BEFORE text AFTER, or with a delta of any kind. */
interface ChoiceStyle {
  /** From behind the index up to the token's text, inside its quotes. */
  before: string;
  /** From the closing quote to the end of the delta (for a completion: nothing but the quote). */
  after: string;
  /** From there to the end of the choice. */
  tail: string;
  /** All of a last frame's choice behind the index. */
  finish: (reason: FinishReason) => string;
}

/** How one engine's frames and bodies differ from another's. */
export interface OpenAiStyle {
  /** The id of an answer, made of one that is free to choose. */
  id: (kind: AnswerKind, id: string) => string;
  /** Fields around the list of choices, the outer braces not included. */
  frame: (head: AnswerHead) => [before: string, after: string];
  chat: ChoiceStyle & {
    /** The first frame's choice behind the index; null: no frame of its own. */
    opening: string | null;
    /** Follows the choices of that frame only. */
    openingEnd: string;
    /** The names under which a delta carries thoughts. */
    reasoning: readonly string[];
  };
  completion: ChoiceStyle;
  /** Whether it tells how much of a prompt was found in its cache. */
  tellsCached: boolean;
  /** Whether frames without usage say `"usage":null`. */
  nullUsage: (kind: AnswerKind) => boolean;
  /** More fields of the last frame, or of the whole body, with a comma before each. */
  timings: ((summary: Summary) => object) | null;
  /** An error inside a stream, without the end mark. */
  errorFrame: (error: unknown) => string;
  doneAfterError: boolean;
  body: (head: AnswerHead, choices: StyledChoice[], usage: Usage) => object;
}

export interface StyledChoice extends FinishedChoice {
  index: number;
  logprobs: object | null;
}

export interface Wanted {
  includeUsage: boolean;
  /** The number of alternatives for each token; null: no log probabilities. */
  logprobs: number | null;
}

export function openAiWire(head: AnswerHead, style: OpenAiStyle, wanted: Wanted): Wire {
  const chat = head.kind === "chat";
  const usageOf = (usage: Usage) => (style.tellsCached ? usage : { ...usage, cachedTokens: null });
  const { before, after, tail, finish } = style[head.kind];
  const [frameStart, frameEnd] = style.frame(head);
  const open = `data: {${frameStart}[`;
  const choice = `${open}{"index":`;
  const usual = style.nullUsage(head.kind) ? ',"usage":null}\n\n' : "}\n\n";
  const close = (usage: Usage | null) =>
    `]${frameEnd}${usage ? `,"usage":${usageText(usage)}}\n\n` : usual}`;
  const rest = `${tail}}`;
  const plainEnd = flat(after + rest + close(null));
  const starts: string[] = [];
  const startOf = (index: number) => (starts[index] ??= flat(choice + index + before));
  const offsets = new Map<number, number>();

  const token = (index: number, text: string, usage: Usage | null) =>
    startOf(index) + text + (usage ? after + rest + close(usage) : plainEnd);

  const tokenWithLogprobs = (index: number, text: string, usage: Usage | null) => {
    const offset = offsets.get(index) ?? 0;
    offsets.set(index, offset + text.length);
    const logprobs = logprobsOf([text], offset);
    return startOf(index) + text + after + withLogprobs(rest, logprobs) + close(usage);
  };

  const logprobsOf = (tokens: string[], offset = 0) => {
    if (wanted.logprobs === null) return null;
    return chat
      ? chatLogprobs(tokens, wanted.logprobs)
      : completionLogprobs(tokens, wanted.logprobs, offset);
  };

  // Engines that tell their speed put it into the last frame, whichever that is.
  let held = "";
  const finishFrame = (index: number, reason: FinishReason, usage: Usage | null) =>
    `${choice}${index}${finish(reason)}}${close(usage)}`;

  return {
    contentType: SSE,
    opening(index, usage) {
      const { opening, openingEnd } = style.chat;
      if (!chat || opening === null) return "";
      const end = close(usage);
      return `${choice}${index}${opening}}]${openingEnd}${end.slice(1)}`;
    },
    token: wanted.logprobs === null ? token : tokenWithLogprobs,
    piece: (index, piece, usage) =>
      `${choice}${index},"delta":${deltaOf(piece, style)}${rest}${close(usage)}`,
    finish(index, reason, usage) {
      if (style.timings === null || wanted.includeUsage) return finishFrame(index, reason, usage);
      const before = held;
      held = finishFrame(index, reason, usage);
      return before;
    },
    end(summary, noDone) {
      const timings = style.timings ? members(style.timings(summary)) : "";
      const last = wanted.includeUsage
        ? `${open}]${frameEnd},"usage":${usageText(usageOf(summary))}${timings}}\n\n`
        : held.replace(/\}\n\n$/, () => `${timings}}\n\n`);
      return last + (noDone ? "" : DONE);
    },
    error: (error, noDone) =>
      held + style.errorFrame(error) + (style.doneAfterError && !noDone ? DONE : ""),
    whole(choices, summary) {
      const styled = choices.map((one, index) => ({
        ...one,
        index,
        logprobs: one.calls.length > 0 ? null : logprobsOf(one.tokens),
      }));
      const timings = style.timings ? style.timings(summary) : {};
      return { ...style.body(head, styled, usageOf(summary)), ...timings };
    },
  };
}

function deltaOf(piece: Piece, { chat }: OpenAiStyle): string {
  if (piece.channel === "reasoning") {
    return JSON.stringify(Object.fromEntries(chat.reasoning.map((name) => [name, piece.text])));
  }
  const { call, opens, text } = piece;
  const begun = opens ? { id: opens.id, type: "function" } : {};
  const part = { ...(opens ? { name: opens.name } : {}), arguments: text };
  return JSON.stringify({ tool_calls: [{ index: call, ...begun, function: part }] });
}

/** A whole choice's message; a completion has its text alone. */
export function contentIn(kind: AnswerKind, { text }: FinishedChoice, message: object): object {
  return kind === "chat" ? { message: { role: "assistant", ...message } } : { text };
}

/** The `tool_calls` of a whole message. */
export function toolCallsOf(choice: FinishedChoice): object[] {
  return choice.calls.map(({ id, name, arguments: given }) => ({
    id,
    type: "function",
    function: { name, arguments: given },
  }));
}

/** Null where the engine has no cache, or does not report it. */
export function promptDetails({ cachedTokens }: Usage): { cached_tokens: number } | null {
  return cachedTokens === null ? null : { cached_tokens: cachedTokens };
}

export function usageBody(usage: Usage): object {
  const { promptTokens, completionTokens } = usage;
  const details = promptDetails(usage);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    ...(details ? { prompt_tokens_details: details } : {}),
  };
}

function usageText(usage: Usage): string {
  const { promptTokens, completionTokens } = usage;
  const details = promptDetails(usage);
  const cached = details ? `,"prompt_tokens_details":${JSON.stringify(details)}` : "";
  return `{"prompt_tokens":${promptTokens},"total_tokens":${promptTokens + completionTokens},"completion_tokens":${completionTokens}${cached}}`;
}

/** The rest of a choice with log probabilities in the place of its null, or added. */
function withLogprobs(rest: string, logprobs: object | null): string {
  const text = JSON.stringify(logprobs);
  return rest.includes('"logprobs":null')
    ? rest.replace('"logprobs":null', () => `"logprobs":${text}`)
    : `,"logprobs":${text}${rest}`;
}

function members(value: object): string {
  return `,${JSON.stringify(value).slice(1, -1)}`;
}

interface Likely {
  token: string;
  logprob: number;
}

/** For a chat: one entry for each token, with `top` alternatives. */
function chatLogprobs(tokens: readonly string[], top: number): object {
  const entry = ({ token, logprob }: Likely) => ({
    token,
    logprob,
    bytes: [...Buffer.from(token)],
  });
  return {
    content: tokens.map((token) => ({
      ...entry(likely(token)),
      top_logprobs: alternatives(token, top).map(entry),
    })),
  };
}

/** For a completion: parallel lists. `offset` is where the first token stands in the text. */
function completionLogprobs(tokens: readonly string[], top: number, offset: number): object {
  let at = offset;
  return {
    text_offset: tokens.map((token) => {
      const here = at;
      at += token.length;
      return here;
    }),
    token_logprobs: tokens.map((token) => likely(token).logprob),
    tokens,
    top_logprobs: tokens.map((token) =>
      Object.fromEntries(alternatives(token, top).map((one) => [one.token, one.logprob])),
    ),
  };
}

function likely(token: string): Likely {
  return { token, logprob: -(Bun.hash.crc32(token) % 1000) / 1000 };
}

/** The token itself, then others that are each less likely. */
function alternatives(token: string, top: number): Likely[] {
  const { logprob } = likely(token);
  return Array.from({ length: top }, (_, i) =>
    i === 0 ? { token, logprob } : { token: `${token}~${i}`, logprob: logprob - i },
  );
}
