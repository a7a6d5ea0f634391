/** A request's body as routing and engines need it: its fields, and its bytes for an attempt. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { BodyContent } from "../../util/http/exchange.ts";
import type { ModelTarget } from "./aliases.ts";
import { NO_PROMPT, type PromptSource } from "./prompt.ts";

export interface Payload {
  /** Null where the route can do without. */
  model: string | null;
  /** Whether the client asked for a stream. */
  stream: boolean;
  /** An engine kind that the client restricts itself to. */
  kind: string | null;
  /** The content-type that the engine is to get; null: none. */
  contentType: string | null;
  /** In bytes, as far as it is known. */
  length: number;
  /** How long the client was waited for. */
  waitedMs: number;
  /** Whether it can be sent more than once. */
  repeatable: boolean;
  /** Whether asking the engine for usage changes the body: the client has not asked itself. */
  canAskUsage: boolean;
  /** Whether it may be given a name, as `rid`: the client has given it none. */
  canName: boolean;
  /** The response that this one goes on from; null: none. */
  previousResponse: string | null;
  prompt: PromptSource;
  content(options: ContentOptions): BodyContent;
  /** The same for large bodies, whose edits take long: a promise then, else what it is. */
  contentInSlices(options: ContentOptions): BodyContent | Promise<BodyContent>;
  /** Lets the memory go; nothing can be sent any more. */
  free(): void;
}

export interface ContentOptions {
  askUsage: boolean;
  name?: string | null;
  /** What a replica that an alias led to is to get. */
  target?: ModelTarget | null;
}

/** Of a route whose requests have no body. */
export function emptyPayload(): Payload {
  return {
    model: null,
    stream: false,
    kind: null,
    contentType: null,
    length: 0,
    waitedMs: 0,
    repeatable: true,
    canAskUsage: false,
    canName: false,
    previousResponse: null,
    prompt: NO_PROMPT,
    content: () => null,
    contentInSlices: () => null,
    free() {},
  };
}

/** No model has a longer name; it would only fill logs. */
export const MAX_MODEL_CHARS = 512;

/** Throws `bad_request` for what is no name of a model. */
export function checkModel(model: string, key: string): string {
  if (model === "") throw badRequest(`'${key}' must not be empty.`, key);
  if (model.length <= MAX_MODEL_CHARS) return model;
  throw longModel(key);
}

export function longModel(key: string): LlmnodeError {
  return badRequest(`'${key}' is longer than ${MAX_MODEL_CHARS} characters.`, key);
}

export function badRequest(message: string, param?: string): LlmnodeError {
  return new LlmnodeError("bad_request", message, param === undefined ? {} : { param });
}
