import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { runProcess } from "../../helpers/process.ts";

const MAIN = resolve(import.meta.dir, "../../../src/main.ts");

/** A head that knows nothing but usage. */
function startHead(answer: object, status = 200) {
  const asked: string[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname, search } = new URL(request.url);
      asked.push(pathname + search);
      return Response.json(answer, { status });
    },
  });
  return {
    asked,
    usage: (...args: string[]) =>
      runProcess([process.execPath, MAIN, "usage", ...args, "--head", server.url.origin]),
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

const sums = (requests: number, more: object = {}) => ({
  requests,
  errors: 0,
  input_tokens: 0,
  cached_input_tokens: 0,
  output_tokens: 0,
  estimated_tokens: 0,
  ...more,
});

const ANSWER = {
  schema: "llmnode.usage/1",
  by: ["key", "model"],
  rows: [
    { key: null, key_name: null, model: "unresolved", ...sums(2, { errors: 2 }) },
    {
      ...{ key: "k7f3q9ab", key_name: "al\u001b[31mice", model: "qwen" },
      ...sums(1234, { input_tokens: 5_000_000, output_tokens: 1000, estimated_tokens: 40_000 }),
    },
  ],
  total: sums(1236, {
    errors: 2,
    input_tokens: 5_000_000,
    output_tokens: 1000,
    estimated_tokens: 40_000,
  }),
};

test("usage is a table with figures below each other, and a sum", async () => {
  await using head = startHead(ANSWER);
  const shown = await head.usage();
  expect([shown.code, shown.stderr]).toEqual([0, ""]);
  expect(shown.stdout.split("\n")).toEqual([
    "KEY                MODEL        REQUESTS   ERRORS     INPUT   CACHED   OUTPUT   EST",
    "(no key)           unresolved          2        2         0        0        0",
    "k7f3q9ab (alice)   qwen             1234        0   5000000        0     1000    1%",
    "total                               1236        2   5000000        0     1000    1%",
    "",
  ]);
  expect(head.asked).toEqual(["/api/v1/usage?since_ms=86400000&by=key%2Cmodel"]);
});

test("what is asked for goes to the head; --json prints its answer", async () => {
  await using head = startHead(ANSWER);
  const args = [
    "--since",
    "30d",
    "--by",
    "model, day",
    "--key",
    "none",
    "--model",
    "a/b",
    "--json",
  ];
  const shown = await head.usage(...args);
  expect(JSON.parse(shown.stdout)).toEqual(JSON.parse(JSON.stringify(ANSWER)));
  const query = new URLSearchParams(head.asked[0]?.split("?")[1]);
  expect(Object.fromEntries(query)).toEqual({
    since_ms: "2592000000",
    by: "day,model",
    key: "none",
    model: "a/b",
  });
});

test("hours and days are told in UTC; nothing used is said on stderr", async () => {
  const rows = [{ hour: "2026-11-21T08:00:00.000Z", day: "2026-11-21", ...sums(1) }];
  await using head = startHead({ ...ANSWER, rows, total: sums(1) });
  const shown = await head.usage("--by", "hour,day");
  expect(shown.stdout.split("\n").slice(0, 2)).toEqual([
    "HOUR (UTC)         DAY (UTC)    REQUESTS   ERRORS   INPUT   CACHED   OUTPUT",
    "2026-11-21 08:00   2026-11-21          1        0       0        0        0",
  ]);
  await using empty = startHead({ ...ANSWER, rows: [] });
  const none = await empty.usage("--since", "1h");
  expect([none.code, none.stdout, none.stderr]).toEqual([0, "", "no requests in the last 1h00m\n"]);
});

test("what cannot be meant is refused before anybody is asked", async () => {
  await using head = startHead(ANSWER);
  for (const args of [
    ["--by", "week"],
    ["--by", ""],
    ["--since", "0"],
    ["--since", "soon"],
  ]) {
    const { code, stderr } = await head.usage(...args);
    expect([code, stderr.split("\n").length > 1]).toEqual([2, true]);
  }
  expect(head.asked).toEqual([]);
});
