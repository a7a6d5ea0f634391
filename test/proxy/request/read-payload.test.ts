import { expect, test } from "bun:test";
import fc from "fast-check";
import { type BodyLimits, createBodyBudget } from "../../../src/proxy/request/body.ts";
import type { Payload } from "../../../src/proxy/request/payload.ts";
import { readPayload } from "../../../src/proxy/request/read-payload.ts";
import { ROUTES, type Route } from "../../../src/proxy/request/routes.ts";

function limits(more: Partial<BodyLimits> = {}): BodyLimits {
  return { maxBytes: 10_000, budget: createBodyBudget(20_000), timeoutMs: 1000, ...more };
}

function routeAt(path: string): Route {
  const route = ROUTES.get(path);
  if (!route) throw new Error(`no route ${path}`);
  return route;
}

function read(
  path: string,
  body: string | Uint8Array | ReadableStream,
  on: BodyLimits = limits(),
  headers = {},
) {
  const request = new Request("http://h/", { method: "POST", body, headers });
  return readPayload(request, routeAt(path), on);
}

const text = (payload: Payload, askUsage = false) =>
  new TextDecoder().decode(payload.content({ askUsage }) as Uint8Array);

const CHAT = "/v1/chat/completions";

test.each([
  [CHAT, '{"model":"m"}', { model: "m", stream: false, canAskUsage: false }],
  [CHAT, '{"model":"m","stream":true}', { stream: true, canAskUsage: true }],
  [CHAT, '{"model":"m","stream":false,"stream":true}', { stream: true }],
  [CHAT, '{"model":"m","stream":null}', { stream: false }],
  [CHAT, '{"model":"a\\u002Fb"}', { model: "a/b" }],
  [CHAT, '{"backend":"vllm","model":"m"}', { kind: "vllm" }],
  [CHAT, '{"backend":7,"model":"m"}', { kind: null }],
  ["/v1/embeddings", '{"model":"m","stream":true}', { canAskUsage: false }],
  ["/api/chat", '{"model":"m"}', { stream: true, canAskUsage: false }],
  ["/api/chat", '{"model":"m","stream":false}', { stream: false }],
  ["/api/show", '{"name":"m"}', { model: "m" }],
  ["/generate_stream", '{"inputs":"x"}', { model: null }],
  ["/generate", '{"text":"x","model":"m"}', { model: "m" }],
  ["/tokenize", '{"inputs":"x"}', { model: null }],
])("%s %s", async (path, body, expected) => {
  const on = limits();
  const payload = await read(path, body, on);
  expect(payload).toMatchObject({ ...expected, length: body.length, repeatable: true });
  expect(on.budget.heldBytes).toBe(body.length);
  payload.free();
  payload.free();
  expect(on.budget.heldBytes).toBe(0);
});

test.each([
  ["unknown kind", CHAT, '{"model":"m","backend":"x"}', "bad_request", "backend"],
  ["no model", CHAT, "{}", "bad_request", "model"],
  ["no name", "/api/show", "{}", "bad_request", "name"],
  ["a long model", CHAT, `{"model":"${"x".repeat(513)}"}`, "bad_request", "model"],
  ["a model in bytes that are no text", CHAT, Buffer.from([0x7b, 0xff, 0x7d]), "bad_request", null],
  ["a large body", CHAT, " ".repeat(10_001), "request_too_large", null],
  ["a form without boundary", "/v1/audio/translations", "x", "bad_request", null],
] as const)("%s is refused, and nothing stays held", async (_, path, body, code, param) => {
  const on = limits();
  await expect(read(path, body, on)).rejects.toMatchObject({ code, param });
  expect(on.budget.heldBytes).toBe(0);
});

test("only what is wanted is changed, whatever else the object holds", async () => {
  const property = fc.asyncProperty(
    fc.dictionary(fc.string(), fc.jsonValue()),
    fc.constantFrom("", " ", "\n\t"),
    async (fields, space) => {
      const more = { ...fields, model: "m", stream: true };
      if (typeof fields["backend"] === "string") return;
      const body = space + JSON.stringify(more, null, space.length);
      const payload = await read(CHAT, body);
      expect(text(payload)).toBe(body);
      const asked = JSON.parse(text(payload, true)) as {
        stream_options?: { include_usage?: unknown };
      };
      expect(asked.stream_options?.include_usage).toBe(true);
      const sent = JSON.parse(body) as typeof more;
      expect({ ...asked, stream_options: 0 }).toEqual({ ...sent, stream_options: 0 } as never);
    },
  );
  await fc.assert(property, { numRuns: 300 });
});

test("a body that does not come in time is given up, and what still comes is not held", async () => {
  const on = limits({ timeoutMs: 50 });
  const gate = Promise.withResolvers<void>();
  const body = new ReadableStream({
    async pull(controller) {
      controller.enqueue(new Uint8Array(100));
      await gate.promise;
      controller.enqueue(new Uint8Array(100));
      controller.close();
    },
  });
  await expect(read(CHAT, body, on)).rejects.toThrow("not complete after 0.05 s");
  expect(on.budget.heldBytes).toBe(0);
  gate.resolve();
  await Bun.sleep(10);
  expect(on.budget.heldBytes).toBe(0);
});

test("bodies that together are too many are refused, one after another they fit", async () => {
  const on = limits({ budget: createBodyBudget(25) });
  const first = await read(CHAT, '{"model":"first"}', on);
  await expect(read(CHAT, '{"model":"second"}', on)).rejects.toMatchObject({ code: "overloaded" });
  first.free();
  expect((await read(CHAT, '{"model":"second"}', on)).model).toBe("second");
});

/** A body that is read in slices, and one that is not, which say the same. */
function twins(more: string): [large: string, small: string] {
  const small = `{"backend":"x","model":"old",${more}"model":"m","backend":"vllm","stream":true}`;
  return [small.replace("{", `{"pad":"${"é\\n".repeat(50_000)}",`), small];
}

const ample = () => limits({ maxBytes: 10_000_000, budget: createBodyBudget(20_000_000) });

test.each([
  ["", null],
  ['"messages":[{"role":"user","content":"hello"}],"user":"u",', "u"],
  ['"stream_options":{},"max_tokens":5,', null],
])("a large body with %s says what a small one does", async (more, session) => {
  const on = ample();
  const [large, small] = await Promise.all(twins(more).map((body) => read(CHAT, body, on)));
  if (!large || !small) throw new Error("no payload");
  for (const key of ["model", "kind", "stream", "canAskUsage", "canName"] as const) {
    expect([key, large[key]]).toEqual([key, small[key]]);
  }
  expect([large.model, large.kind, large.prompt.session]).toEqual(["m", "vllm", session]);
  expect(large.prompt.read(true)).toEqual(small.prompt.read(true));
  const target = { model: "M", preset: [{ path: ["temperature"], json: "1" }] };
  for (const how of [
    { askUsage: false },
    { askUsage: true },
    { askUsage: true, name: "n", target },
  ]) {
    const inSlices = large.contentInSlices(how);
    expect(inSlices).toBeInstanceOf(how.askUsage ? Promise : Uint8Array);
    expect(small.contentInSlices(how)).toBeInstanceOf(Uint8Array);
    expect(await inSlices).toEqual(large.content(how));
    const { pad: _, ...sent } = JSON.parse(Buffer.from(large.content(how) as Buffer).toString());
    expect(sent).toEqual(JSON.parse(Buffer.from(small.content(how) as Buffer).toString()));
    expect(sent.backend).toBeUndefined();
  }
});

test("a large body lets others have their turns while it is read and edited", async () => {
  let turns = 0;
  let isDone = false;
  const turn = () => {
    turns += 1;
    if (!isDone) setImmediate(turn);
  };
  const body = `{"model":"m","stream":true,"prompt":[${"1,".repeat(4_000_000)}1]}`;
  const payload = read(CHAT, body, ample());
  setImmediate(turn);
  expect((await payload).prompt.read(false)?.bytes).toBe(8_000_003);
  await (await payload).contentInSlices({ askUsage: true });
  isDone = true;
  // How many depends on the machine; in one go it would be a handful.
  expect(turns).toBeGreaterThan(5);
});

test.each([
  ["no text", Buffer.concat([Buffer.alloc(200_000, 32), Buffer.from([0x7b, 0xc3, 0x28, 0x7d])])],
  ["half a character", Buffer.concat([Buffer.from('{"model":"'), Buffer.alloc(200_001, "é")])],
  ["deep", `{"model":"m","x":${"[".repeat(200_000)}`],
  ["a long model", `{"model":"${"x".repeat(200_000)}"}`],
])("a large body that is %s is refused, and nothing stays held", async (_, body) => {
  const on = ample();
  await expect(read(CHAT, body, on)).rejects.toMatchObject({ code: "bad_request" });
  expect(on.budget.heldBytes).toBe(0);
});

test.each([1, 1000, 65_536, 3_000_000])(
  "a body in chunks of %i bytes, with its length and without it",
  async (size) => {
    const bytes = Buffer.from(`{"model":"m","prompt":"${"é".repeat(size > 1 ? 1_200_000 : 50)}"}`);
    for (const headers of [{}, { "content-length": String(bytes.length) }]) {
      let at = 0;
      const body = new ReadableStream({
        pull(controller) {
          if (at >= bytes.length) return controller.close();
          controller.enqueue(bytes.subarray(at, at + size));
          at += size;
        },
      });
      const on = ample();
      const payload = await read(CHAT, body, on, headers);
      expect(on.budget.heldBytes).toBe(bytes.length);
      expect(bytes.equals(payload.content({ askUsage: false }) as Uint8Array)).toBe(true);
      payload.free();
      expect(on.budget.heldBytes).toBe(0);
    }
  },
);

const FORM = '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b';
const TYPE = { "content-type": "multipart/form-data; boundary=b" };
const AUDIO = "/v1/audio/transcriptions";

test("a small form of known length can be sent again, a stream of one only once", async () => {
  const bytes = Buffer.from(`${FORM}--\r\n`);
  const length = { "content-length": String(bytes.length) };
  const held = await read(AUDIO, bytes, limits(), { ...TYPE, ...length });
  expect([held.model, held.repeatable, text(held)]).toEqual(["m", true, `${FORM}--\r\n`]);
  const parts = [FORM, "\r\nx: y\r\n\r\n", "z".repeat(50_000), "\r\n--b--\r\n"];
  const stream = new ReadableStream({
    async pull(controller) {
      const part = parts[0];
      if (part === undefined) return controller.close();
      await Bun.sleep(1);
      parts.shift();
      controller.enqueue(Buffer.from(part));
    },
  });
  const whole = parts.join("");
  const payload = await read(AUDIO, stream, limits(), TYPE);
  expect([payload.model, payload.repeatable]).toEqual(["m", false]);
  expect(await new Response(payload.content({ askUsage: false })).text()).toBe(whole);
});

test("a form whose model does not come within the limit is refused", async () => {
  const on = limits();
  const part = Buffer.from(
    `--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n${"y".repeat(5000)}`,
  );
  const body = new ReadableStream({ pull: (controller) => controller.enqueue(part) });
  await expect(read(AUDIO, body, on, TYPE)).rejects.toMatchObject({ code: "request_too_large" });
  expect(on.budget.heldBytes).toBe(0);
});
