/** A request's body as routing and engines need it: its fields, and its bytes for an attempt. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { carryOut, carryOutInSlices, type Plan } from "../../util/flow/slices.ts";
import { type Member, type ScannedObject, stringAt } from "../json/scan.ts";
import { QUOTE } from "../json/tokens.ts";
import { type ModelTarget, targetEdits } from "./aliases.ts";
import {
  type BodyLimits,
  createMeter,
  declaredLength,
  HeldBytes,
  inTime,
  type Meter,
  readBody,
} from "./body.ts";
import { askForUsage, type Edit, insertFirst, partsOf, splice, textOf } from "./edits.ts";
import { AT_ONCE_BYTES, badRequest, type JsonBody, readJson, readLargeJson } from "./json-body.ts";
import { boundaryOf, createFormScanner, type FormScan, type FormScanner } from "./multipart.ts";
import { NO_PROMPT, promptSource, type PromptSource } from "./prompt.ts";
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

/** No model has a longer name; it would only fill logs. */
const MAX_MODEL_CHARS = 512;
const MAX_MODEL_BYTES = MAX_MODEL_CHARS * 6 + 2;
/** A form of known length up to this is held, so that it can be sent again. */
const HELD_FORM_BYTES = 1024 * 1024;

/** Rejects as `readBody` does, and with `bad_request` naming the field that is wrong. */
export function readPayload(request: Request, route: Route, limits: BodyLimits): Promise<Payload> {
  if (route.body === "none") return Promise.resolve(emptyPayload());
  const meter = createMeter(limits);
  const reading = isSmall(request, route)
    ? readSmall(request, route, { limits, meter })
    : readLarge(request, route, { limits, meter });
  return reading.catch((error: unknown) => {
    meter.free();
    throw error;
  });
}

/** Nearly all are: they are read without a promise beside the body's. */
function isSmall({ headers }: Request, route: Route): boolean {
  const length = declaredLength(headers);
  return route.body === "json" && length !== null && length <= AT_ONCE_BYTES;
}

interface Measured {
  limits: BodyLimits;
  meter: Meter;
}

function readSmall(request: Request, route: Route, { limits, meter }: Measured): Promise<Payload> {
  try {
    meter.add(declaredLength(request.headers) ?? 0);
  } catch (error) {
    return Promise.reject(error);
  }
  return inTime(request.arrayBuffer(), limits.timeoutMs, meter, (buffer) =>
    jsonPayload(readJson(new Uint8Array(buffer)), route, meter),
  );
}

async function readLarge(
  request: Request,
  route: Route,
  { limits, meter }: Measured,
): Promise<Payload> {
  if (route.body === "multipart") return await readForm(request, limits, meter);
  const bytes = await readBody(request, limits, meter);
  const body = bytes.length <= AT_ONCE_BYTES ? readJson(bytes) : await readLargeJson(bytes);
  return jsonPayload(body, route, meter);
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

function jsonPayload(body: JsonBody, route: Route, meter: Meter): Payload {
  const { object, kind } = body;
  let { bytes } = body;
  const modelMember = modelMemberOf(object, route);
  const model = modelOf(bytes, modelMember, route);
  const flag = object.get("stream");
  // Ollama streams unless it is told not to.
  const stream = flag ? bytes[flag.start] === 0x74 : route.dialect === "ollama";
  const edit = route.asksUsage && stream ? askForUsage(bytes, object) : null;
  let asking: Uint8Array<ArrayBuffer> | null = null;
  const prompt = promptSource({ bytes, object, model, route, bodyHash: body.hash });
  function* edited(how: ContentOptions): Plan<Uint8Array<ArrayBuffer>> {
    const { askUsage, name = null, target = null } = how;
    const isUsual = name === null && target === null;
    if (isUsual && askUsage && asking !== null) return asking;
    const edits: Edit[] = askUsage && edit !== null ? [edit] : [];
    if (name !== null) edits.unshift(insertFirst(object, `"rid":${JSON.stringify(name)}`));
    if (target && modelMember) edits.push(...(yield* targetEdits(bytes, modelMember, target)));
    const result = yield* splice(bytes, edits);
    if (isUsual && askUsage) asking = result;
    return result;
  }
  return {
    model,
    prompt,
    stream,
    kind,
    // Also where the client named another type, as `curl -d` does: engines refuse that.
    contentType: "application/json",
    length: bytes.length,
    waitedMs: meter.waitedMs,
    repeatable: true,
    canAskUsage: edit !== null,
    canName: !object.get("rid"),
    previousResponse: textOf(bytes, object.get("previous_response_id")),
    content: (how) => carryOut(edited(how)),
    contentInSlices(how) {
      // Most often there is nothing to change.
      if (!(how.askUsage && edit !== null) && !how.name && !how.target) return bytes;
      return bytes.length <= AT_ONCE_BYTES ? carryOut(edited(how)) : carryOutInSlices(edited(how));
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

function checkModel(model: string, key: string): string {
  if (model === "") throw badRequest(`'${key}' must not be empty.`, key);
  if (model.length <= MAX_MODEL_CHARS) return model;
  throw longModel(key);
}

function longModel(key: string): LlmnodeError {
  return badRequest(`'${key}' is longer than ${MAX_MODEL_CHARS} characters.`, key);
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
    const model = modelIn(scanner.scan(asBuffer(bytes)));
    return { ...form, waitedMs: meter.waitedMs, model, ...contentsOf(bytes, scanner) };
  }
  const reader = request.body?.getReader();
  if (!reader) throw badRequest("The request has no body.");
  const deadline = performance.now() + limits.timeoutMs;
  const held = new HeldBytes(0);
  for (;;) {
    const left = Math.max(0, deadline - performance.now());
    const { done, value } = await inTime(reader.read(), left, meter);
    if (value) {
      meter.add(value.byteLength);
      await held.add(value);
    }
    const found = scanner.scan(asBuffer(held.bytes));
    if (!done && found.state === "more") continue;
    const model = modelIn(found);
    const bytes = held.take();
    const read = { ...form, waitedMs: meter.waitedMs, model };
    if (done) return { ...read, length: bytes.length, ...contentsOf(bytes, scanner) };
    const content = (how: ContentOptions) =>
      rest(partsOf(bytes, formEdits(scanner, how)), reader, limits.timeoutMs);
    return { ...read, repeatable: false, content, contentInSlices: content };
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function contentsOf(
  bytes: Uint8Array<ArrayBuffer>,
  scanner: FormScanner,
): Pick<Payload, "content" | "contentInSlices"> {
  const edited = (how: ContentOptions) => splice(bytes, formEdits(scanner, how));
  return {
    content: (how) => carryOut(edited(how)),
    contentInSlices: (how) => carryOutInSlices(edited(how)),
  };
}

/** Another model where an alias stood; a preset's keys are no parts of a form. */
function formEdits({ modelSpan }: FormScanner, { target = null }: ContentOptions): Edit[] {
  return target === null || modelSpan === null ? [] : [{ ...modelSpan, text: target.model }];
}

/** What was read already, then the rest as it comes; an error when it stops coming. */
function rest(
  begun: readonly Uint8Array[],
  reader: {
    read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
    cancel(): Promise<void>;
  },
  timeoutMs: number,
): ReadableStream<Uint8Array> {
  let sent = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const part = begun[sent];
      if (part !== undefined) {
        sent += 1;
        controller.enqueue(part);
        return;
      }
      const { done, value } = await inTime(reader.read(), timeoutMs, null);
      if (done || value === undefined) controller.close();
      else controller.enqueue(value);
    },
    cancel: () => reader.cancel(),
  });
}

function modelIn(found: FormScan): string {
  if (found.state === "found") return checkModel(found.model, "model");
  throw badRequest("The form has no 'model'.", "model");
}
