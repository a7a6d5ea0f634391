/** Responses that live in the engine that made them: their ids in requests and in answers. */

import { LlmnodeError } from "../../protocol/errors.ts";

/** Where a response was made: one life of an engine, under one model. */
export interface Origin {
  engineRun: string;
  model: string;
}

/** Remembers for a while which engine made which response. */
export interface Origins {
  /** Null when it is not known, or the engine that made it has ended. */
  find(id: string): Origin | null;
  note(id: string, origin: Origin): void;
}

/** Where responses are made, and have ids by which they are asked for later. */
export const RESPONSES_PATH = "/v1/responses";

/** What has no meaning of its own in a path. */
const ID = "[A-Za-z0-9_-]{1,128}";
const IN_PATH = new RegExp(`^${RESPONSES_PATH}/(${ID})(?:[/?]|$)`);
/** Engines give them OpenAI's prefix, which the ids of the parts of a response do not have. */
const IN_ANSWER = new RegExp(`"id"\\s*:\\s*"(resp_${ID})"`);
const LOOKED_AT_BYTES = 16 * 1024;
const decoder = new TextDecoder();

/** The id of the response that a path is about; null for any other path. */
export function responseIn(path: string): string | null {
  return IN_PATH.exec(path)?.[1] ?? null;
}

/** The id in the beginning of an answer, whole or a stream's first frame; null when there is none. */
export function responseMade(first: Uint8Array): string | null {
  return IN_ANSWER.exec(decoder.decode(first.subarray(0, LOOKED_AT_BYTES)))?.[1] ?? null;
}

/** Throws `not_found`: no other engine has it. */
export function originOf(origins: Origins, id: string): Origin {
  const origin = origins.find(id);
  if (!origin) throw noResponse(id);
  return origin;
}

export function noResponse(id: string): LlmnodeError {
  const name = JSON.stringify(id.slice(0, 128));
  const message = `There is no response ${name}: it has expired, or the engine that made it has stopped.`;
  return new LlmnodeError("not_found", message);
}
