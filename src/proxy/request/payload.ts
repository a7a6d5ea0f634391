/** A request's body as routing and engines need it: its fields, and its bytes for an attempt. */

import { isUtf8 } from "node:buffer";
import { LlmnodeError } from "../../protocol/errors.ts";
import { type ModelTarget, targetEdits } from "./aliases.ts";
import {
  type BodyLimits,
  createMeter,
  declaredLength,
  inTime,
  type Meter,
  readBody,
} from "./body.ts";
import { askForUsage, insertFirst, removeMember, splice, textOf } from "./edits.ts";
import { JsonScanError, lastMember, type Member, scanObject } from "./json-scan.ts";
import { boundaryOf, createFormScanner, type FormScanner } from "./multipart.ts";
import {
  MESSAGE_LISTS,
  NO_PROMPT,
  PROMPT_MEMBERS,
  promptSource,
  type PromptSource,
} from "./prompt.ts";
import type { Route } from "./routes.ts";
import type { BodyContent } from "../../util/http/exchange.ts";

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
  /** With `target`, what a replica that an alias led to is to get. */
  content(options: {
    askUsage: boolean;
    name?: string | null;
    target?: ModelTarget | null;
  }): BodyContent;
  /** Lets the memory go; nothing can be sent any more. */
  free(): void;
}

const WANTED: ReadonlySet<string> = new Set([
  "model",
  "name",
  "stream",
  "stream_options",
  "backend",
  "rid",
  "previous_response_id",
  ...PROMPT_MEMBERS,
]);
/** No model has a longer name; it would only fill logs. */
const MAX_MODEL_CHARS = 512;
/** A form of known length up to this is held, so that it can be sent again. */
const HELD_FORM_BYTES = 1024 * 1024;

/** Kinds that a `backend` may name. */
const KINDS = new Set(
  "vllm sglang tgi tei ollama llama-server trtllm lmdeploy dynamo generic".split(" "),
);

/** Throws what `readBody` throws, and `bad_request` naming the field that is wrong. */
export async function readPayload(
  request: Request,
  route: Route,
  limits: BodyLimits,
): Promise<Payload> {
  if (route.body === "none") return emptyPayload();
  const meter = createMeter(limits);
  try {
    if (route.body === "multipart") return await readForm(request, limits, meter);
    const bytes = await readBody(request, limits, meter);
    return jsonPayload(bytes, route, meter);
  } catch (error) {
    meter.free();
    throw error;
  }
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
    free() {},
  };
}

function jsonPayload(sent: Uint8Array<ArrayBuffer>, route: Route, meter: Meter): Payload {
  if (!isUtf8(sent)) throw badRequest("The request body is not valid UTF-8.");
  let members = scan(sent);
  let bytes = sent;
  const kind = kindOf(bytes, members);
  if (kind !== null) {
    bytes = removeMember(bytes, "backend");
    members = scan(bytes);
  }
  const model = modelOf(bytes, members, route);
  const modelMember = lastMember(members, modelKey(members, route));
  const flag = lastMember(members, "stream");
  // Ollama streams unless it is told not to.
  const stream = flag ? bytes[flag.start] === 0x74 : route.dialect === "ollama";
  const edit = route.asksUsage && stream ? askForUsage(bytes, members) : null;
  let asking: Uint8Array<ArrayBuffer> | null = null;
  const prompt = promptSource({ bytes, members, model, route });
  return {
    model,
    prompt,
    stream,
    kind,
    // Also where the client named another type, as `curl -d` does: engines refuse that.
    contentType: "application/json",
    length: sent.length,
    waitedMs: meter.waitedMs,
    repeatable: true,
    canAskUsage: edit !== null,
    canName: !lastMember(members, "rid"),
    previousResponse: textOf(bytes, members, "previous_response_id"),
    content({ askUsage, name = null, target = null }) {
      const usage = askUsage && edit !== null ? [edit] : [];
      if (name !== null || target !== null) {
        const named = name === null ? [] : [insertFirst(bytes, `"rid":${JSON.stringify(name)}`)];
        const meant = target && modelMember ? targetEdits(bytes, modelMember, target) : [];
        return splice(bytes, [...named, ...usage, ...meant]);
      }
      if (usage.length === 0) return bytes;
      asking ??= splice(bytes, usage);
      return asking;
    },
    free() {
      meter.free();
      prompt.free();
      // The request itself lives as long as its answer: its body must not.
      bytes = new Uint8Array();
      asking = null;
    },
  };
}

function scan(bytes: Uint8Array): Member[] {
  try {
    return scanObject(bytes, WANTED, MESSAGE_LISTS);
  } catch (error) {
    if (!(error instanceof JsonScanError)) throw error;
    throw badRequest(`The request body is not a valid JSON object: ${error.message}.`);
  }
}

function modelKey(members: readonly Member[], route: Route): "model" | "name" {
  return route.path === "/api/show" && !lastMember(members, "model") ? "name" : "model";
}

function modelOf(bytes: Uint8Array, members: readonly Member[], route: Route): string | null {
  const key = modelKey(members, route);
  if (!lastMember(members, key)) {
    if (route.dialect === "tgi" || route.dialect === "engine") return null;
    throw badRequest(`The request has no '${key}'.`, key);
  }
  const model = textOf(bytes, members, key);
  if (model === null) throw badRequest(`'${key}' must be a string.`, key);
  return checkModel(model, key);
}

function checkModel(model: string, key: string): string {
  if (model === "") throw badRequest(`'${key}' must not be empty.`, key);
  if (model.length <= MAX_MODEL_CHARS) return model;
  throw badRequest(`'${key}' is longer than ${MAX_MODEL_CHARS} characters.`, key);
}

/** ServerlessLLM's `backend`; other values than strings are the engine's business. */
function kindOf(bytes: Uint8Array, members: readonly Member[]): string | null {
  const kind = textOf(bytes, members, "backend");
  if (kind === null || KINDS.has(kind)) return kind;
  throw badRequest(`'backend' must be one of ${[...KINDS].join(", ")}.`, "backend");
}

async function readForm(request: Request, limits: BodyLimits, meter: Meter): Promise<Payload> {
  const contentType = request.headers.get("content-type") ?? "";
  const boundary = boundaryOf(contentType);
  if (boundary === null)
    throw badRequest("The request must be a multipart/form-data with a boundary.");
  const length = declaredLength(request.headers);
  const form = { ...emptyPayload(), contentType, length: length ?? 0, free: meter.free };
  const scanner = createFormScanner(boundary);
  if (length !== null && length <= HELD_FORM_BYTES) {
    const bytes = await readBody(request, limits, meter);
    const found = scanner.scan(Buffer.from(bytes.buffer));
    const model = modelIn(found);
    const content = contentOf(bytes, scanner);
    return { ...form, waitedMs: meter.waitedMs, model, content };
  }
  const reader = request.body?.getReader();
  if (!reader) throw badRequest("The request has no body.");
  const deadline = performance.now() + limits.timeoutMs;
  let held = Buffer.alloc(0);
  let used = 0;
  for (;;) {
    const { done, value } = await inTime(
      reader.read(),
      Math.max(0, deadline - performance.now()),
      meter,
    );
    if (value) {
      meter.add(value.byteLength);
      if (used + value.byteLength > held.length) {
        const larger = Buffer.alloc(Math.max(2 * held.length, used + value.byteLength, 64 * 1024));
        held.copy(larger, 0, 0, used);
        held = larger;
      }
      held.set(value, used);
      used += value.byteLength;
    }
    const found = scanner.scan(held.subarray(0, used));
    if (!done && found.state === "more") continue;
    const model = modelIn(found);
    const begun = contentOf(new Uint8Array(held.subarray(0, used)), scanner);
    if (done) return { ...form, waitedMs: meter.waitedMs, model, length: used, content: begun };
    return {
      ...form,
      waitedMs: meter.waitedMs,
      model,
      repeatable: false,
      content: (how) => rest(begun(how), reader, limits.timeoutMs),
    };
  }
}

/** A form with another model where an alias stood; a preset's keys are no parts of a form. */
function contentOf(
  bytes: Uint8Array<ArrayBuffer>,
  { modelSpan }: FormScanner,
): (how: { target?: ModelTarget | null }) => Uint8Array<ArrayBuffer> {
  return ({ target = null }) =>
    target === null || modelSpan === null
      ? bytes
      : splice(bytes, [{ ...modelSpan, text: target.model }]);
}

/** What was read already, then the rest as it comes; an error when it stops coming. */
function rest(
  begun: Uint8Array,
  reader: {
    read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
    cancel(): Promise<void>;
  },
  timeoutMs: number,
): ReadableStream<Uint8Array> {
  let isFirst = true;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (isFirst) {
        isFirst = false;
        controller.enqueue(begun);
        return;
      }
      const { done, value } = await inTime(reader.read(), timeoutMs, null);
      if (done || value === undefined) controller.close();
      else controller.enqueue(value);
    },
    cancel: () => reader.cancel(),
  });
}

function modelIn(found: ReturnType<ReturnType<typeof createFormScanner>["scan"]>): string {
  if (found.state === "found") return checkModel(found.model, "model");
  throw badRequest("The form has no 'model'.", "model");
}

function badRequest(message: string, param?: string): LlmnodeError {
  return new LlmnodeError("bad_request", message, param === undefined ? {} : { param });
}
