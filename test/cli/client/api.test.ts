import { expect, test } from "bun:test";
import { getJson, parseHeadUrl } from "../../../src/cli/client/api.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";

test.each([
  ["10.0.0.5", "http://10.0.0.5:8092"],
  ["gpu-head:9000", "http://gpu-head:9000"],
  ["[::1]:9000", "http://[::1]:9000"],
  ["::1", "http://[::1]:8092"],
  ["http://10.0.0.5:8092/", "http://10.0.0.5:8092"],
  ["https://llm.example.com", "https://llm.example.com"],
  ["https://example.com/llm/", "https://example.com/llm"],
  ["", null],
  ["host:0", null],
  ["host:x", null],
  ["ftp://host", null],
  ["http://user:pw@host", null],
  ["http://host?x", null],
  ["host/path", null],
])("--head %p is %p", (text, expected) => {
  expect(parseHeadUrl(text)).toBe(expected);
});

/** A server on a free port that answers everything alike; ended when disposed. */
function answering(answer: (request: Request) => Response | Promise<Response>) {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: answer });
  return {
    url: `http://127.0.0.1:${server.port}`,
    port: server.port ?? 0,
    async [Symbol.asyncDispose]() {
      await server.stop(true);
    },
  };
}

async function failure(url: string, timeoutMs = 5000): Promise<LlmnodeError> {
  try {
    await getJson({ url, timeoutMs, retryPausesMs: [5, 5] }, "/api/v1/status");
  } catch (error) {
    if (error instanceof LlmnodeError) return error;
    throw error;
  }
  throw new Error("it answered");
}

test("the answer is the head's text, byte for byte", async () => {
  const body = '{ "schema":"llmnode.status/1",  "x":1}\n';
  await using head = answering((request) => {
    return new URL(request.url).pathname === "/api/v1/status"
      ? new Response(body)
      : new Response(null, { status: 404 });
  });
  expect(await getJson({ url: head.url, timeoutMs: 5000 }, "/api/v1/status")).toBe(body);
});

test("nobody there: tried three times, told with what to do next", async () => {
  const gone = answering(() => new Response());
  await gone[Symbol.asyncDispose]();
  const error = await failure(gone.url);
  expect(error.code).toBe("head_unreachable");
  expect(error.message).toMatch(
    /^cannot reach the head at http:\/\/127\.0\.0\.1:\d+ \(connection refused, 3 tries in 0\.\ds\)$/,
  );
  expect(error.hints[0]).toBe("is it running?   llmnode head");
});

test("a head that comes back between two tries is no failure", async () => {
  const gone = answering(() => new Response());
  await gone[Symbol.asyncDispose]();
  const asked = getJson({ url: gone.url, timeoutMs: 5000, retryPausesMs: [300, 300] }, "/x");
  await Bun.sleep(50);
  const back = Bun.serve({
    hostname: "127.0.0.1",
    port: gone.port,
    fetch: () => new Response("{}"),
  });
  try {
    expect(await asked).toBe("{}");
  } finally {
    await back.stop(true);
  }
});

test("a head that says nothing ends at the time limit", async () => {
  const held = Promise.withResolvers<Response>();
  await using head = answering(() => held.promise);
  const error = await failure(head.url, 200);
  expect([error.code, error.message]).toEqual([
    "head_unreachable",
    `cannot reach the head at ${head.url} (no answer in 0.2s)`,
  ]);
  held.resolve(new Response());
});

test("so does one that starts to answer and stalls", async () => {
  await using head = answering(() => {
    const stream = new ReadableStream({ start: (controller) => controller.enqueue("{") });
    return new Response(stream);
  });
  expect((await failure(head.url, 200)).code).toBe("head_unreachable");
});

test("a refusal is told in the head's words", async () => {
  const error = { message: "only from this machine", type: "forbidden" };
  await using head = answering(() => Response.json({ error }, { status: 403 }));
  const told = await failure(head.url);
  expect([told.code, told.message]).toEqual([
    "forbidden",
    `the head at ${head.url} does not allow this: only from this machine`,
  ]);
});

test.each([
  ["a page", () => new Response("<html>")],
  ["nothing", () => new Response(null)],
  ["another API", () => Response.json({ detail: "Not Found" }, { status: 404 })],
  ["a redirect", () => Response.redirect("http://127.0.0.1:1/")],
])("%s is not a head", async (_, answer) => {
  await using head = answering(answer);
  const told = await failure(head.url);
  expect(told.code).toBe("bad_message");
  expect(told.message).toContain("is not an llmnode head");
});

test("a head's own failure is told in its words", async () => {
  await using head = answering(() => {
    return Response.json({ error: { message: "shutting\u001b[2J down" } }, { status: 503 });
  });
  expect((await failure(head.url)).message).toBe(`the head at ${head.url} answers: shutting down`);
});

test("a proxy of the environment is not used for this machine", async () => {
  await using head = answering(() => new Response("{}"));
  const before = process.env["HTTP_PROXY"];
  process.env["HTTP_PROXY"] = "http://127.0.0.1:1";
  try {
    expect(await getJson({ url: head.url, timeoutMs: 5000 }, "/x")).toBe("{}");
  } finally {
    if (before === undefined) delete process.env["HTTP_PROXY"];
    else process.env["HTTP_PROXY"] = before;
  }
});
