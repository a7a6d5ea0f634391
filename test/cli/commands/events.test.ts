import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { freshEvents } from "../../../src/cli/commands/events.ts";
import type { EventRow } from "../../../src/protocol/watch-rows.ts";
import { spawnProcess } from "../../helpers/process.ts";
import { waitFor } from "../../helpers/wait.ts";
import { refusal, startListHead } from "../lists/list-head.ts";

const MAIN = resolve(import.meta.dir, "../../../src/main.ts");

/** Events of a life of a head. */
function events(ids: number[], life = "00"): EventRow[] {
  return ids.map((id) => ({
    id,
    time: `2026-02-03T14:${life}:${String(id % 60).padStart(2, "0")}.000Z`,
    level: id % 2 === 0 ? "info" : "error",
    kind: "joined",
    worker: `w${id}`,
    model: null,
    text: `event ${id}`,
  }));
}

test.each([
  ["nothing was there, and now there is", null, events([1, 2]), [1, 2], null],
  ["nothing new", events([7])[0], events([5, 6, 7]), [], null],
  ["two new ones", events([5])[0], events([4, 5, 6, 7]), [6, 7], null],
  [
    "some dropped",
    events([5])[0],
    events([9, 10]),
    [9, 10],
    "3 events were dropped: they came too fast",
  ],
  ["a new life with less", events([5])[0], events([1, 2], "10"), [1, 2], "the head has restarted"],
  [
    "a new life with more",
    events([5])[0],
    events([1, 2, 3, 4, 5, 6], "10"),
    [1, 2, 3, 4, 5, 6],
    "the head has restarted",
  ],
  ["a new life with nothing", events([5])[0], [], [], "the head has restarted"],
] as [string, EventRow | null, EventRow[], number[], string | null][])(
  "%s",
  async (_, last, all, expected, note) => {
    await using head = startListHead({ events: all });
    const client = { url: head.url, timeoutMs: 5000, retryPausesMs: [] };
    const fresh = await freshEvents(client, last);
    expect(fresh.rows.map(({ id }) => id)).toEqual(expected);
    expect(fresh.note).toBe(note);
  },
);

function following(url: string, ...more: string[]) {
  return spawnProcess([process.execPath, MAIN, "events", "-f", "--head", url, ...more], {
    env: { HOME: "/dev/null/home" },
  });
}

test("events -f goes on, over a head that goes away, until Ctrl-C", async () => {
  await using head = startListHead({ events: events([1, 2, 3]) });
  await using child = following(head.url, "--tail", "2", "--filter", "worker:w2|w3|w5|w6");
  await child.waitForLine("event 3");
  head.told.events = events([1, 2, 3, 4, 5]);
  await child.waitForLine("event 5");
  head.answer = () => refusal(503, "shutting_down", "bye");
  await child.waitForLine("waiting until it is back, Ctrl-C ends this");
  head.answer = null;
  await child.waitForLine("the head is back");
  head.told.events = events([1, 2, 3, 4, 5, 6]);
  await child.waitForLine("event 6");
  child.kill("SIGINT");
  const { code, stdout } = await child.finished;
  expect(code).toBe(130);
  expect(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.replace(/^\S+ \S+ +/, "")),
  ).toEqual([
    "info   joined     w2  event 2",
    "error  joined     w3  event 3",
    "error  joined     w5  event 5",
    "info   joined     w6  event 6",
  ]);
});

test("events -f --json is one object a line, and ends with its reader", async () => {
  await using head = startListHead({ events: events([1]) });
  await using child = spawnProcess(
    ["bash", "-c", `'${process.execPath}' '${MAIN}' events -f --json --head ${head.url} | head -2`],
    { env: { HOME: "/dev/null/home" } },
  );
  let id = 1;
  // What it prints shows that nobody reads any more.
  await waitFor(async () => {
    id += 1;
    head.told.events = events(Array.from({ length: id }, (_, i) => i + 1));
    return await Promise.race([child.finished.then(() => true), Bun.sleep(200).then(() => false)]);
  });
  const { code, stdout, stderr } = await child.finished;
  expect([code, stderr]).toEqual([0, ""]);
  expect(
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toEqual(events([1, 2]));
});
