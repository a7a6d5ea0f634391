import { expect, test } from "bun:test";
import { ACCOUNTING } from "./accounting.ts";
import { BODIES } from "./bodies.ts";
import { CLIENTS } from "./clients.ts";
import { FAULTS } from "./faults.ts";
import { HEADERS } from "./headers.ts";
import { HOSTILE } from "./hostile.ts";
import { LIFE } from "./life.ts";
import { REQUESTS } from "./requests.ts";
import { ROUTE_LINES } from "./routes.ts";
import { SLOW } from "./slow.ts";
import { STREAMS } from "./streams.ts";
import { nameOf } from "./table.ts";

/** Each of these has a test file of its own, so that they can run side by side. */
const TABLE = [
  ...[REQUESTS, BODIES, ROUTE_LINES, HEADERS, STREAMS],
  ...[FAULTS, CLIENTS, ACCOUNTING, LIFE, HOSTILE, SLOW],
].flat();

test("the table has every line of the list, each entry by a name of its own", () => {
  const lines = [...new Set(TABLE.map(({ line }) => line))].sort((a, b) => a - b);
  expect(lines).toEqual(Array.from({ length: 34 }, (_, i) => i + 1));
  expect(new Set(TABLE.map(nameOf)).size).toBe(TABLE.length);
});

test("exactly these are not there yet, and say what they need", () => {
  const open = TABLE.filter(({ run, needs }) => !run || needs !== undefined);
  expect(open.map((line) => `${nameOf(line)}: ${line.needs?.join(", ")}`).sort()).toEqual([
    "C30 first byte and silence of an engine that hangs: stalls",
  ]);
  expect(open.every(({ run }) => run === undefined)).toBe(true);
});
