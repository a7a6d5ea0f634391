import { expect, test } from "bun:test";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { type LogIndex, openLogIndex } from "../../src/engine/log/log-index.ts";
import { silentLog } from "../../src/util/log.ts";
import type { Upstream } from "../../src/util/http/exchange.ts";
import { createLogService } from "../../src/worker/logs.ts";
import { ask as askOf } from "../helpers/exchange.ts";
import { tempDir } from "../helpers/temp.ts";

async function startDesk(maxReaders = 16) {
  const folder = tempDir();
  const path = join(folder.path, "engine.log");
  await appendFile(path, "one\ntwo\n");
  const index: LogIndex = openLogIndex(path, { log: silentLog });
  const service = createLogService({ index, settings: { maxReaders, pollMs: 5, beatMs: 30 } });
  return { service, path, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

function ask(service: Upstream, path: string, signal = new AbortController().signal) {
  const rest = { host: null, fields: "", body: null, length: 0, fresh: false };
  return askOf(service, { method: "GET", path, ...rest, signal });
}

/** Up to its end or its first sign of life. */
async function read(answer: Response): Promise<string> {
  let text = "";
  for await (const bytes of answer.body ?? []) {
    text += Buffer.from(bytes).toString();
    if (text.endsWith("\n\n")) break;
  }
  return text;
}

test("the log is one event a line, taken in any pieces", async () => {
  using log = await startDesk();
  const answer = await ask(log.service, "/log");
  expect([answer.status, [...answer.headers]]).toEqual([
    200,
    [["content-type", "application/x-ndjson"]],
  ]);
  const events = (await read(answer)).trimEnd().split("\n");
  expect(events.map((line): unknown => JSON.parse(line))).toEqual([
    { type: "line", text: "one" },
    { type: "line", text: "two" },
    { type: "end" },
  ]);
});

test("a quiet log gives signs of life", async () => {
  using log = await startDesk();
  const over = new AbortController();
  const answer = await ask(log.service, "/log?follow=1&tail=1", over.signal);
  expect(await read(answer)).toEndWith('"}\n\n');
  over.abort();
});

test.each([
  ["/other", 400, "no such path"],
  ["/log?tail=x", 400, "tail is not understood"],
  ["/log?tail=-1", 400, "tail is not understood"],
  ["/log?since_ms=1e99", 400, "since_ms is not understood"],
  ["/log?follow=yes", 400, "follow is not understood"],
  ["/log?from=../../x", 400, "from is not understood"],
  ["/log?follow=1&previous=1", 400, "follow is not understood"],
  ["/log?previous=1", 404, "no run before"],
])("%s is refused with %i", async (path, status, words) => {
  using log = await startDesk();
  const answer = await ask(log.service, path);
  expect(answer.status).toBe(status);
  expect(await read(answer)).toContain(words);
});

test("an engine of somebody else has no log here", async () => {
  const answer = await ask(createLogService({ index: null, settings: {} }), "/log");
  expect(answer.status).toBe(409);
  expect(await read(answer)).toContain("--attach");
});

test("so many readers and no more; one that leaves or has read all makes room", async () => {
  using log = await startDesk(2);
  const first = new AbortController();
  const second = new AbortController();
  await ask(log.service, "/log?follow=1", first.signal);
  await ask(log.service, "/log?follow=1", second.signal);
  const refused = await ask(log.service, "/log");
  expect([refused.status, await read(refused)]).toEqual([
    409,
    expect.stringContaining("2 readers have this log open already"),
  ]);
  first.abort();
  await read(await ask(log.service, "/log"));
  expect((await ask(log.service, "/log")).status).toBe(200);
  expect((await ask(log.service, "/log")).status).toBe(409);
  second.abort();
});
