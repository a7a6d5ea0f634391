/** Reads a JSON body: what it says to us, wherever it says it. */

import { isUtf8 } from "node:buffer";
import { LlmnodeError } from "../../protocol/errors.ts";
import { Hash, hashOf, Utf8Check } from "../../util/flow/bulk.ts";
import { inSlices } from "../../util/flow/slices.ts";
import { Names } from "../json/names.ts";
import { ObjectScan, type ScannedObject } from "../json/scan.ts";
import { JsonScanError, QUOTE } from "../json/tokens.ts";
import { textOf } from "./edits.ts";
import { MESSAGE_LISTS, PROMPT_MEMBERS } from "./prompt.ts";

/** Bodies up to this, which are nearly all, are read and edited in one go. */
export const AT_ONCE_BYTES = 64 * 1024;

const OWN_MEMBERS = [
  "model",
  "name",
  "stream",
  "stream_options",
  "backend",
  "rid",
  "previous_response_id",
];
const WANTED = new Names([...OWN_MEMBERS, ...PROMPT_MEMBERS], { walked: MESSAGE_LISTS });
/** What no engine is to see; so all but the last one may go at once. */
const HIDDEN = "backend";

/** Kinds that a `backend` may name. */
const KINDS = new Set(
  "vllm sglang tgi tei ollama llama-server trtllm lmdeploy dynamo generic".split(" "),
);

/** A body that is one JSON object. */
export interface JsonBody {
  bytes: Uint8Array<ArrayBuffer>;
  object: ScannedObject;
  /** An engine kind that the client restricts itself to. */
  kind: string | null;
  /** Names the body as it is sent. */
  hash: string;
}

/** In one go. */
export function readJson(bytes: Uint8Array<ArrayBuffer>): JsonBody {
  if (!isUtf8(bytes)) throw notUtf8();
  const scan = new ObjectScan(bytes, WANTED, HIDDEN);
  try {
    scan.run();
  } catch (error) {
    throw noObject(error);
  }
  const kind = takeKind(bytes, scan);
  return { bytes, object: scan, kind, hash: hashOf(bytes) };
}

/** The same in slices. */
export async function readLargeJson(bytes: Uint8Array<ArrayBuffer>): Promise<JsonBody> {
  const check = new Utf8Check(bytes);
  await inSlices(check);
  if (!check.isUtf8) throw notUtf8();
  const scan = new ObjectScan(bytes, WANTED, HIDDEN);
  try {
    await inSlices(scan);
  } catch (error) {
    throw noObject(error);
  }
  const kind = takeKind(bytes, scan);
  const hash = new Hash(bytes);
  await inSlices(hash);
  return { bytes, object: scan, kind, hash: hash.name };
}

/** ServerlessLLM's `backend`; other values than strings are the engine's business. */
function takeKind(bytes: Uint8Array, scan: ObjectScan): string | null {
  const member = scan.get(HIDDEN);
  if (!member || bytes[member.start] !== QUOTE) return null;
  const kind = textOf(bytes, member);
  if (kind === null || !KINDS.has(kind)) {
    throw badRequest(`'backend' must be one of ${[...KINDS].join(", ")}.`, "backend");
  }
  scan.blank(member);
  return kind;
}

function notUtf8(): LlmnodeError {
  return badRequest("The request body is not valid UTF-8.");
}

function noObject(error: unknown): unknown {
  if (!(error instanceof JsonScanError)) return error;
  return badRequest(`The request body is not a valid JSON object: ${error.message}.`);
}

export function badRequest(message: string, param?: string): LlmnodeError {
  return new LlmnodeError("bad_request", message, param === undefined ? {} : { param });
}
