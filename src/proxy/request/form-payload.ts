/** Reads a form's body: as far as the name of its model, or whole where that makes it repeatable. */

import { carryOut, carryOutInSlices } from "../../util/flow/slices.ts";
import {
  type BodyLimits,
  declaredLength,
  HeldBytes,
  inTime,
  type Meter,
  readBody,
} from "./body.ts";
import { type Edit, partsOf, splice } from "./edits.ts";
import { boundaryOf, createFormScanner, type FormScan, type FormScanner } from "./multipart.ts";
import {
  badRequest,
  checkModel,
  type ContentOptions,
  emptyPayload,
  type Payload,
} from "./payload.ts";

/** A form of known length up to this is held, so that it can be sent again. */
const HELD_FORM_BYTES = 1024 * 1024;

/** Rejects as `readBody` does, and with `bad_request` where no model is named. */
export async function readForm(
  request: Request,
  limits: BodyLimits,
  meter: Meter,
): Promise<Payload> {
  const contentType = request.headers.get("content-type") ?? "";
  const boundary = boundaryOf(contentType);
  if (boundary === null)
    throw badRequest("The request must be a multipart/form-data with a boundary.");
  const length = declaredLength(request.headers);
  const form = { ...emptyPayload(), contentType, length: length ?? 0, free: () => meter.free() };
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
