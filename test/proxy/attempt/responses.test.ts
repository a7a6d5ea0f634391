import { expect, test } from "bun:test";
import { responseIn, responseMade } from "../../../src/proxy/request/origin.ts";
import { directUpstream } from "../../helpers/upstream.ts";
import { type Answer, eventStream, startEngine, type TestEngine } from "../../helpers/engine.ts";
import { type Front, startFront } from "../front.ts";

const RESPONSES = "/v1/responses";

/** An engine that has made one response; its first answer is another status if that is given. */
function maker(id: string, statuses: number[] = []): TestEngine {
  const answer: Answer = (request, body) => {
    const status = statuses.shift() ?? 200;
    if (status !== 200) return Response.json({ error: "no" }, { status });
    const { pathname } = new URL(request.url);
    if (pathname !== RESPONSES) return Response.json({ at: id, pathname, method: request.method });
    const response = { id, object: "response", output: [{ id: "msg_1", type: "message" }] };
    if (!body.includes('"stream":true')) return Response.json(response);
    const event = { type: "response.created", response };
    return eventStream([`event: response.created\ndata: ${JSON.stringify(event)}\n\n`]);
  };
  return startEngine(answer);
}

function before(...engines: TestEngine[]): Front {
  const upstreams = engines.map(({ port }) => directUpstream(`http://127.0.0.1:${port}`));
  return startFront({ upstreams, proxy: { backoffMs: 5 } });
}

/** Has `resp_b` made by the second engine. */
async function made(front: Front, stream = false): Promise<void> {
  const response = await front.post(RESPONSES, { model: "m", input: "x", stream });
  expect(await response.text()).toContain("resp_b");
}

test.each([false, true])(
  "what is asked by id goes to the engine that made it (stream: %p)",
  async (stream) => {
    await using a = maker("resp_a", [500]);
    await using b = maker("resp_b");
    await using front = before(a, b);
    await made(front, stream);
    const asked = [
      ["GET", "/v1/responses/resp_b?include=x"],
      ["GET", "/v1/responses/resp_b/input_items"],
      ["POST", "/v1/responses/resp_b/cancel"],
      ["DELETE", "/v1/responses/resp_b"],
    ] as const;
    for (const [method, path] of asked) {
      const response = await fetch(front.url + path, { method });
      expect(await response.json()).toMatchObject({ at: "resp_b", method });
      expect(b.seen.at(-1)?.path).toBe(path);
    }
    expect(a.seen.length).toBe(1);
    const record = front.records.at(-1);
    expect([record?.route, record?.model]).toEqual(["/v1/responses/{id}", "m"]);
  },
);

test("what goes on from a response goes to the engine that made it", async () => {
  await using a = maker("resp_a", [500]);
  await using b = maker("resp_b");
  await using front = before(a, b);
  await made(front);
  const more = { model: "m", input: "y", previous_response_id: "resp_b" };
  expect((await front.post(RESPONSES, more)).status).toBe(200);
  expect((await front.post(RESPONSES, { ...more, previous_response_id: null })).status).toBe(200);
  expect([a.seen.length, b.seen.length]).toEqual([2, 2]);
});

test("an id that nobody made is 404, and reaches no engine", async () => {
  await using a = maker("resp_a");
  await using front = before(a);
  const more = { model: "m", input: "y", previous_response_id: "resp_x" };
  const answers = [
    await front.post(RESPONSES, more),
    await fetch(`${front.url}/v1/responses/resp_x`),
    await fetch(`${front.url}/v1/responses/resp_x/cancel`, { method: "POST" }),
  ];
  for (const answer of answers) {
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({ error: { code: "not_found", param: null } });
  }
  expect(a.seen.length).toBe(0);
});

test("its failure is the answer: nobody else has the response", async () => {
  await using a = maker("resp_a", [500]);
  await using b = maker("resp_b", [200, 500]);
  await using front = before(a, b);
  await made(front);
  expect((await fetch(`${front.url}/v1/responses/resp_b`)).status).toBe(500);
  expect([a.seen.length, b.seen.length]).toEqual([1, 2]);
});

test("an engine without room is waited for: nobody else has the response", async () => {
  await using a = maker("resp_a", [500]);
  await using b = maker("resp_b", [200, 503, 503, 429]);
  await using front = before(a, b);
  await made(front);
  expect((await fetch(`${front.url}/v1/responses/resp_b`)).status).toBe(200);
  expect([a.seen.length, b.seen.length]).toEqual([1, 5]);
});

test.each([
  ["/v1/responses/resp_1", "resp_1"],
  ["/v1/responses/resp_1?stream=true", "resp_1"],
  ["/v1/responses/resp_1/cancel", "resp_1"],
  ["/v1/responses", null],
  ["/v1/responses/", null],
  ["/v1/responses/../secrets", null],
  ["/v1/responses/a%2fb", null],
  [`/v1/responses/${"x".repeat(129)}`, null],
  ["/v1/chat/completions", null],
])("the id in %s", (path, id) => {
  expect(responseIn(path)).toBe(id);
});

test.each([
  ["first", '{"id":"resp_1","object":"response"}', "resp_1"],
  ["by the alphabet", '{"background":false,"error":null,"id": "resp_2","output":[]}', "resp_2"],
  ["in an event", 'event: x\ndata: {"type":"x","response":{"id":"resp_3"}}\n\n', "resp_3"],
  ["not a part's", '{"output":[{"id":"msg_1"}]}', null],
  ["not what it goes on from", '{"previous_response_id":"resp_1"}', null],
  [
    "not in the client's own text",
    '{"instructions":"\\"id\\":\\"resp_9\\"","id":"resp_4"}',
    "resp_4",
  ],
  ["not with odd characters", '{"id":"resp_a/b"}', null],
  ["nothing", "", null],
])("the id of a response: %s", (_, text, id) => {
  expect(responseMade(new TextEncoder().encode(text))).toBe(id);
});
