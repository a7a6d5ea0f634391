/** Routes that take or give sound and pictures; forms are echoed, so that a test sees they arrived. */

import type { AnswerContext } from "./answer.ts";
import { mediaType, modelOf, text, type JsonObject } from "../core/body.ts";
import { prefilled } from "./embed.ts";
import { maybeFail } from "../core/faults.ts";
import { inferenceRoute, type Received } from "./handle.ts";
import { promptList, textPrompt } from "../core/prompt.ts";
import { invalidField, unsupportedMediaType } from "../core/refuse.ts";
import type { Route, RouteTable, Served } from "./dialect.ts";

const SPEECH_BYTES = 4096;

const SPEECH_TYPES: Readonly<Record<string, string>> = {
  mp3: "audio/mpeg",
  opus: "audio/opus",
  aac: "audio/aac",
  flac: "audio/flac",
  wav: "audio/wav",
  pcm: "audio/pcm",
};

/** A picture of one transparent point, in PNG. */
const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";

const CATEGORIES = ["harassment", "hate", "self-harm", "sexual", "violence"];

export function mediaRoutes(served: Served): RouteTable {
  return {
    "/v1/audio/transcriptions": { POST: transcriptionRoute(served) },
    "/v1/audio/translations": { POST: transcriptionRoute(served) },
    "/v1/audio/speech": {
      POST: inferenceRoute(served, (received) => readSpeech(received, served), speech),
    },
    "/v1/images/generations": {
      POST: inferenceRoute(served, (received) => readInput(received, served, "prompt"), picture),
    },
    "/v1/moderations": {
      POST: inferenceRoute(served, (received) => readInput(received, served, "input"), moderation),
    },
  };
}

/** `{"text": ...}` that tells the name, size and hash of each file, and all other fields. */
export function transcriptionRoute(served: Served): Route {
  return async (req) => {
    if (mediaType(req) !== "multipart/form-data") throw unsupportedMediaType("multipart/form-data");
    const form = await req.formData().catch((error: unknown) => {
      // A client that left while it was sending sent no broken form.
      if (req.signal.aborted) throw error;
      throw invalidField(null, "form_invalid", "There was an error parsing the body");
    });
    const fields: JsonObject = {};
    const parts: string[] = [];
    for (const [name, value] of form) {
      if (typeof value === "string") {
        fields[name] = value;
        parts.push(`${name}=${value}`);
      } else {
        const bytes = await value.bytes();
        const hash = Bun.hash.xxHash64(bytes).toString(16);
        parts.push(`${name}: ${bytes.length} bytes of ${value.name}, xxh64 ${hash}`);
      }
    }
    if (typeof form.get("file") === "string" || form.get("file") === null) {
      throw invalidField("file", "missing", "Field required");
    }
    const { model } = modelOf(fields, served.serving);
    maybeFail(served.options);
    const summary = `[simulated] ${parts.sort().join("; ")}`;
    const context = { engine: served.engine, receivedAt: performance.now(), signal: req.signal };
    await prefilled({ model, prompts: [{ text: summary, tokens: 1 }] }, context);
    if (fields["response_format"] === "text") return new Response(summary);
    return Response.json({ text: summary, usage: { type: "duration", seconds: 1 } });
  };
}

function readSpeech({ body }: Received, { serving }: Served) {
  const input = text(body, "input");
  const format = body["response_format"] ?? "wav";
  const type = typeof format === "string" ? SPEECH_TYPES[format] : undefined;
  if (type === undefined) {
    throw invalidField(
      "response_format",
      "literal_error",
      `Input should be ${Object.keys(SPEECH_TYPES).join(", ")}`,
    );
  }
  return { ...modelOf(body, serving), input, type, prompts: [textPrompt(input)] };
}

async function speech(asked: ReturnType<typeof readSpeech>, context: AnswerContext) {
  await prefilled(asked, context);
  const start = Number(Bun.hash.xxHash64(asked.input) & 0xffn);
  const bytes = Uint8Array.from({ length: SPEECH_BYTES }, (_, i) => (start + i * 31) % 256);
  return new Response(bytes, { headers: { "content-type": asked.type } });
}

function readInput({ body, id }: Received, { serving }: Served, field: string) {
  return { id, ...modelOf(body, serving), prompts: promptList(body[field], field) };
}

async function picture(asked: ReturnType<typeof readInput>, context: AnswerContext) {
  await prefilled(asked, context);
  return {
    created: Math.floor(Date.now() / 1000),
    data: asked.prompts.map(({ text: prompt }) => ({
      b64_json: PICTURE,
      revised_prompt: `[simulated] ${prompt}`,
    })),
  };
}

async function moderation(asked: ReturnType<typeof readInput>, context: AnswerContext) {
  await prefilled(asked, context);
  const each = <T>(value: T) => Object.fromEntries(CATEGORIES.map((name) => [name, value]));
  return {
    id: `modr-${asked.id}`,
    model: asked.named,
    results: asked.prompts.map(() => ({
      flagged: false,
      categories: each(false),
      category_scores: each(0),
    })),
  };
}
