import { afterAll, beforeAll, expect, test } from "bun:test";
import { FAST, startTestHead, type TestHead } from "../../helpers/cluster.ts";

let head: TestHead;
beforeAll(async () => {
  head = await startTestHead(FAST);
});
afterAll(() => head[Symbol.asyncDispose]());

const JSON_TYPE = { "content-type": "application/json" };

async function ask(
  method: string,
  path: string,
  more: { body?: unknown; headers?: Record<string, string>; as?: "operator" | "nobody" } = {},
) {
  const { body, headers, as = "operator" } = more;
  const response = await fetch(`${head.url}/api/v1/${path}`, {
    method,
    headers: {
      ...(body === undefined ? {} : JSON_TYPE),
      ...(as === "operator" ? head.operator : {}),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const json = (await response.json()) as Record<string, unknown> & { error?: { code: string } };
  return { status: response.status, headers: response.headers, json, code: json.error?.code };
}

test("tokens are made, listed and taken back; a list has no secret", async () => {
  const wish = { expires_in_ms: 3_600_000, uses: 2, models: "q*", note: "for bob" };
  const created = await ask("POST", "join-tokens", { body: wish });
  expect(created.json).toMatchObject({
    schema: "llmnode.admin/1",
    token: expect.stringMatching(/^[0-9a-f]{48}\./),
    join_token: { state: "active", uses_max: 2, uses: 0, models: "q*", note: "for bob" },
  });
  expect(created.headers.get("cache-control")).toBe("no-store");
  const listed = await ask("GET", "join-tokens");
  const rows = listed.json["join_tokens"] as { id: string; first: boolean; note: string }[];
  expect(rows.map(({ first, note }) => [first, note])).toEqual([
    [true, ""],
    [false, "for bob"],
  ]);
  const secret = String(created.json["token"]).slice(0, 48);
  expect(JSON.stringify(listed.json)).not.toContain(secret);
  const id = rows.find(({ note }) => note === "for bob")?.id;
  const revoked = await ask("POST", "join-tokens/revoke", { body: { id } });
  expect(revoked.json).toMatchObject({ join_token: { id, state: "revoked" } });
  expect((await ask("POST", "join-tokens/revoke", { body: { id: "x" } })).code).toBe("not_found");
  const first = await ask("GET", "join-tokens/first");
  expect(first.json["token"]).toBe(head.head.joinToken());
});

test.each([
  ["a foreign origin", { origin: "https://evil.example" }],
  ["a null origin", { origin: "null" }],
  ["another site", { "sec-fetch-site": "cross-site" }],
  ["a name that leads here (DNS rebinding)", { host: "evil.example:8092" }],
  ["a proxy in front", { "x-forwarded-for": "203.0.113.9" }],
  ["another proxy in front", { forwarded: "for=203.0.113.9" }],
])("%s is refused for reading and for writing", async (_, headers) => {
  const before = head.head.joinToken();
  for (const [method, path, body] of [
    ["GET", "join-tokens/first", undefined],
    ["POST", "join-tokens", {}],
    ["POST", "join-tokens/rotate", {}],
    ["POST", "workers/forget", { worker: "w" }],
  ] as const) {
    const answer = await ask(method, path, { body, headers, as: "nobody" });
    expect([path, answer.status, answer.code]).toEqual([path, 403, "forbidden"]);
    expect(JSON.stringify(answer.json)).not.toContain(before?.slice(0, 20) ?? "?");
  }
  expect(head.head.joinToken()).toBe(before);
});

test.each(["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])(
  "a form's content type (%s) makes no token",
  async (type) => {
    const answer = await ask("POST", "join-tokens", {
      body: "{}",
      headers: { "content-type": type },
    });
    expect(answer.status).toBe(400);
  },
);

test.each([
  ["no JSON", "{"],
  ["an array", []],
  ["uses of 0", { uses: 0 }],
  ["half a use", { uses: 0.5 }],
  ["uses as text", { uses: "2" }],
  ["a negative time", { expires_in_ms: -1 }],
  ["a time beyond dates", { expires_in_ms: 1e17 }],
  ["an empty pattern", { models: "" }],
  ["a pattern with an escape", { models: "a\u001b[31m" }],
  ["a long note", { note: "x".repeat(201) }],
  ["a long body", { note: "x".repeat(20_000) }],
])("%s makes no token", async (_, body) => {
  const answer = await ask("POST", "join-tokens", { body });
  expect(answer.status).toBe(400);
});

test("other methods are refused with those that there are, other paths are nothing", async () => {
  const wrong = await ask("DELETE", "join-tokens");
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET, POST"]);
  expect((await ask("GET", "join-tokens/rotate")).status).toBe(405);
  expect((await ask("POST", "join-tokens/nothing", { body: {} })).status).toBe(404);
});
