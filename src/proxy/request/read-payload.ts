/** Reads a request's body in as its route says. */

import { isUtf8 } from "node:buffer";
import type { LlmnodeError } from "../../protocol/errors.ts";
import { Hash, hashOf, Utf8Check } from "../../util/flow/bulk.ts";
import { carryOut, carryOutInSlices, inSlices, type Plan } from "../../util/flow/slices.ts";
import type { BodyContent } from "../../util/http/exchange.ts";
import { Names } from "../json/names.ts";
import { type Member, ObjectScan, type ScannedObject, stringAt } from "../json/scan.ts";
import { JsonScanError, QUOTE } from "../json/tokens.ts";
import { targetEdits } from "./aliases.ts";
import { type BodyLimits, BodyWait, brokenOff, declaredLength, Meter, readBody } from "./body.ts";
import { askForUsage, type Edit, insertFirst, splice, textOf } from "./edits.ts";
import { readForm } from "./form-payload.ts";
import {
  badRequest,
  checkModel,
  type ContentOptions,
  emptyPayload,
  longModel,
  MAX_MODEL_CHARS,
  type Payload,
} from "./payload.ts";
import { JsonPrompt, MESSAGE_LISTS, PROMPT_MEMBERS } from "./prompt.ts";
import type { Route } from "./routes.ts";

/** Bodies up to this, which are nearly all, are read and edited in one go. */
const AT_ONCE_BYTES = 64 * 1024;

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
interface JsonBody {
  bytes: Uint8Array<ArrayBuffer>;
  object: ScannedObject;
  /** An engine kind that the client restricts itself to. */
  kind: string | null;
  /** Names the body as it is sent. */
  hash: string;
}

/** With every character escaped, and the quotes. */
const MAX_MODEL_BYTES = MAX_MODEL_CHARS * 6 + 2;

/** Rejects as `readBody` does, and with `bad_request` naming the field that is wrong. */
export function readPayload(request: Request, route: Route, limits: BodyLimits): Promise<Payload> {
  if (route.body === "none") return Promise.resolve(emptyPayload());
  const length = declaredLength(request.headers);
  const isSmall = route.body === "json" && length !== null && length <= AT_ONCE_BYTES;
  return isSmall
    ? readSmall(request, route, { limits, length })
    : readLarge(request, route, limits);
}

/** Nearly all are: they are read without a promise beside the body's. */
function readSmall(
  request: Request,
  route: Route,
  { limits, length }: { limits: BodyLimits; length: number },
): Promise<Payload> {
  return new Promise((resolve, reject) => {
    const meter = new Meter(limits);
    const fail = (error: unknown) => {
      meter.free();
      reject(error);
    };
    meter.add(length);
    const wait = new BodyWait(limits.timeoutMs, meter, fail);
    request.arrayBuffer().then(
      (buffer) => {
        wait.end();
        try {
          resolve(new JsonPayload(readJson(new Uint8Array(buffer)), route, meter));
        } catch (error) {
          fail(error);
        }
      },
      (error: unknown) => {
        wait.end();
        fail(brokenOff(error));
      },
    );
  });
}

async function readLarge(request: Request, route: Route, limits: BodyLimits): Promise<Payload> {
  const meter = new Meter(limits);
  try {
    if (route.body === "multipart") return await readForm(request, limits, meter);
    const bytes = await readBody(request, limits, meter);
    const body = bytes.length <= AT_ONCE_BYTES ? readJson(bytes) : await readLargeJson(bytes);
    return new JsonPayload(body, route, meter);
  } catch (error) {
    meter.free();
    throw error;
  }
}

/** A class, and its plans made when something is changed: nearly all bodies are sent as they came. */
class JsonPayload implements Payload {
  readonly model: string | null;
  readonly stream: boolean;
  readonly kind: string | null;
  // Also where the client named another type, as `curl -d` does: engines refuse that.
  readonly contentType = "application/json";
  readonly length: number;
  readonly waitedMs: number;
  readonly repeatable = true;
  readonly canAskUsage: boolean;
  readonly canName: boolean;
  readonly previousResponse: string | null;
  readonly prompt: JsonPrompt;
  readonly #meter: Meter;
  /** What makes the body ask for usage. */
  readonly #usageEdit: Edit | null;
  readonly #modelMember: Member | undefined;
  /** Null once it was let go of: the request itself lives as long as its answer. */
  #body: JsonBody | null;
  /** The body that asks for usage. */
  #asking: Uint8Array<ArrayBuffer> | null = null;

  constructor(body: JsonBody, route: Route, meter: Meter) {
    const { bytes, object, kind, hash } = body;
    const modelMember = modelMemberOf(object, route);
    const flag = object.get("stream");
    this.#body = body;
    this.#meter = meter;
    this.#modelMember = modelMember;
    this.model = modelOf(bytes, modelMember, route);
    // Ollama streams unless it is told not to.
    this.stream = flag ? bytes[flag.start] === 0x74 : route.dialect === "ollama";
    this.#usageEdit = route.asksUsage && this.stream ? askForUsage(bytes, object) : null;
    this.prompt = new JsonPrompt({ bytes, object, model: this.model, route, bodyHash: hash });
    this.kind = kind;
    this.length = bytes.length;
    this.waitedMs = meter.waitedMs;
    this.canAskUsage = this.#usageEdit !== null;
    this.canName = !object.get("rid");
    this.previousResponse = textOf(bytes, object.get("previous_response_id"));
  }

  content(how: ContentOptions): BodyContent {
    return this.#body === null ? null : carryOut(this.#edited(this.#body, how));
  }

  contentInSlices(how: ContentOptions): BodyContent | Promise<BodyContent> {
    const body = this.#body;
    if (body === null) return null;
    // Most often there is nothing to change.
    if (!(how.askUsage && this.canAskUsage) && !how.name && !how.target) return body.bytes;
    const plan = this.#edited(body, how);
    return this.length <= AT_ONCE_BYTES ? carryOut(plan) : carryOutInSlices(plan);
  }

  *#edited(
    { bytes, object }: JsonBody,
    { askUsage, name = null, target = null }: ContentOptions,
  ): Plan<Uint8Array<ArrayBuffer>> {
    const isUsual = name === null && target === null;
    if (isUsual && askUsage && this.#asking !== null) return this.#asking;
    const edits: Edit[] = askUsage && this.#usageEdit !== null ? [this.#usageEdit] : [];
    if (name !== null) edits.unshift(insertFirst(object, `"rid":${JSON.stringify(name)}`));
    if (target && this.#modelMember) {
      edits.push(...(yield* targetEdits(bytes, this.#modelMember, target)));
    }
    const result = yield* splice(bytes, edits);
    if (isUsual && askUsage) this.#asking = result;
    return result;
  }

  free(): void {
    this.#meter.free();
    this.prompt.free();
    this.#body = null;
    this.#asking = null;
  }
}

/** The member that names the model. */
function modelMemberOf(object: ScannedObject, route: Route): Member | undefined {
  const model = object.get("model");
  return route.path === "/api/show" ? (model ?? object.get("name")) : model;
}

function modelOf(bytes: Uint8Array, member: Member | undefined, route: Route): string | null {
  if (!member) {
    if (route.dialect === "tgi" || route.dialect === "engine") return null;
    const key = route.path === "/api/show" ? "name" : "model";
    throw badRequest(`The request has no '${key}'.`, key);
  }
  const { name } = member;
  if (bytes[member.start] !== QUOTE) throw badRequest(`'${name}' must be a string.`, name);
  // Whatever its characters, it is too long: it need not be read.
  if (member.end - member.start > MAX_MODEL_BYTES) throw longModel(name);
  return checkModel(stringAt(bytes, member) ?? "", name);
}

/** Reads it in one go. */
function readJson(bytes: Uint8Array<ArrayBuffer>): JsonBody {
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
async function readLargeJson(bytes: Uint8Array<ArrayBuffer>): Promise<JsonBody> {
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
