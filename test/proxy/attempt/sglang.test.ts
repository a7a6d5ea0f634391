import { expect, test } from "bun:test";
import { directUpstream } from "../../helpers/upstream.ts";
import { chatAnswer, eventStream, startEngine, type TestEngine } from "../../helpers/engine.ts";
import { waitFor } from "../../helpers/wait.ts";
import { type Front, startFront } from "../front.ts";

const CHAT = "/v1/chat/completions";

/** An engine that streams one frame and then nothing more. */
function endless(): TestEngine {
  return startEngine((request) =>
    new URL(request.url).pathname === "/abort_request"
      ? new Response()
      : eventStream(
          (async function* () {
            yield "data: 1\n\n";
            await new Promise(() => {});
          })(),
        ),
  );
}

function before(engine: TestEngine, engineKind: string): Front {
  const upstreams = [directUpstream(`http://127.0.0.1:${engine.port}`)];
  return startFront({ upstreams, engines: [{ engineKind }] });
}

const aborts = ({ seen }: TestEngine) =>
  seen
    .filter(({ path }) => path === "/abort_request")
    .map(({ body }) => JSON.parse(body) as object);
const nameIn = (body: string) => /^\{"rid":"([0-9a-f]{32})",/.exec(body)?.[1];

test("SGLang is told by the request's name that its client has left", async () => {
  await using engine = endless();
  await using front = before(engine, "sglang");
  const client = new AbortController();
  const { signal } = client;
  const rest = '"model" : "m", "stream":true,"x":1e400}';
  const response = await front.post(CHAT, `{${rest}`, { signal });
  expect(response.status).toBe(200);
  const body = engine.seen[0]?.body ?? "";
  const rid = nameIn(body);
  expect(rid).toBeString();
  // Nothing else has changed but the question for usage.
  expect(body).toEndWith(rest);
  expect(aborts(engine)).toEqual([]);
  client.abort();
  await waitFor(() => aborts(engine).length === 1);
  expect(aborts(engine)).toEqual([{ rid }]);
  expect(await front.next()).toMatchObject({ status: 499 });
});

test("SGLang is told as well when the client leaves before the first byte, or the head moves it", async () => {
  await using engine = startEngine((request) =>
    new URL(request.url).pathname === "/abort_request"
      ? new Response()
      : new Promise<Response>(() => {}),
  );
  await using front = before(engine, "sglang");
  const client = new AbortController();
  const left = front.post(CHAT, { model: "m", messages: [] }, { signal: client.signal }).then(
    () => "answered",
    () => "left",
  );
  await waitFor(() => engine.seen.length === 1);
  client.abort();
  expect(await left).toBe("left");
  await waitFor(() => aborts(engine).length === 1);
  const moved = front.post(CHAT, { model: "m", messages: [] });
  await waitFor(() => engine.seen.length === 3);
  front.reschedule("move");
  expect((await moved).status).toBe(503);
  await waitFor(() => aborts(engine).length === 2);
  const names = engine.seen.map(({ body }) => nameIn(body)).filter((name) => name !== undefined);
  expect(aborts(engine)).toEqual(names.map((rid) => ({ rid })));
});

test("an answer that has come to its end needs no word", async () => {
  await using engine = startEngine(() => chatAnswer("x"));
  await using front = before(engine, "sglang");
  await (await front.post(CHAT, { model: "m", messages: [] })).text();
  await front.next();
  expect(engine.seen.map(({ path }) => path)).toEqual([CHAT]);
});

test.each([
  ["a name of the client's own", "sglang", CHAT, { rid: "mine" }],
  ["a kind that has no such names", "vllm", CHAT, {}],
  ["a route that has no such names", "sglang", "/v1/embeddings", {}],
])("%s: the body stays as it is, and nothing is aborted by name", async (_, kind, path, more) => {
  await using engine = endless();
  await using front = before(engine, kind);
  const body = JSON.stringify({ model: "m", messages: [], ...more });
  const client = new AbortController();
  await front.post(path, body, { signal: client.signal });
  expect(engine.seen[0]?.body).toBe(body);
  client.abort();
  await front.next();
  await waitFor(() => engine.aborted === 1);
  expect(aborts(engine)).toEqual([]);
});

test("an SGLang that does not answer the word holds nothing up", async () => {
  await using engine = startEngine(() => new Promise<Response>(() => {}));
  await using front = before(engine, "sglang");
  const client = new AbortController();
  const left = front.post(CHAT, { model: "m", messages: [] }, { signal: client.signal }).then(
    () => "answered",
    () => "left",
  );
  await waitFor(() => engine.seen.length === 1);
  client.abort();
  expect([await left, (await front.next()).status]).toEqual(["left", 499]);
});
