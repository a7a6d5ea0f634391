import { expect, test } from "bun:test";
import fc from "fast-check";
import { VIEWS } from "../../../src/protocol/watch-rows.ts";
import type { TopEvent } from "../../../src/top/state/event.ts";
import {
  cluster,
  engine,
  events,
  frame,
  hello,
  manyWorkers,
  model,
  request,
  type SampleCluster,
  worker,
  detailOf,
} from "../sample.ts";
import { ASCII, painted, play, press, screen, stage, START, UTF8, wait } from "../show.ts";

/** What must never reach a terminal but as our own colours. */
// oxlint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const EVIL = "\u001b[2J\u001b]0;x\u0007\u202eevil\nname 工作";

function evil(): SampleCluster {
  const text = EVIL.repeat(40);
  return {
    workers: [
      worker(EVIL, {
        state: "failed",
        state_detail: text,
        reason: text,
        labels: { [EVIL]: text },
        address: text,
        version: text,
        models: [{ name: text, engines: 3 }],
        gpus: [
          {
            index: 0,
            uuid: text,
            name: text,
            util_pct: 1e9,
            mem_used_bytes: -5,
            mem_total_bytes: 0,
            temp_c: 1e9,
            power_w: -1,
          },
        ],
        gpu_util_pct: Number.NaN,
        kv_pct: 1e12,
        in_flight: 1e15,
      }),
    ],
    models: [
      model(text, {
        alias_of: text,
        kinds: [text],
        workers: [text],
        context: 1e15,
        error_ratio: 99,
      }),
    ],
    requests: [
      request(text, {
        model: text,
        worker: text,
        key: text,
        path: text,
        timeline: [{ at_ms: -1, text }],
      }),
    ],
    events: events().map((event) => ({ ...event, worker: EVIL, text })),
  };
}

const anyCluster = fc.constantFrom<() => SampleCluster>(
  cluster,
  evil,
  () => manyWorkers(200),
  () => ({ workers: [], models: [], requests: [], events: [] }),
);
const size = fc.record({
  columns: fc.integer({ min: 20, max: 300 }),
  rows: fc.integer({ min: 3, max: 90 }),
});
const pressed = fc.constantFrom(
  "1",
  "2",
  "3",
  "4",
  "j",
  "k",
  "G",
  "g",
  " ",
  "D",
  "X",
  "K",
  "R",
  "U",
  "s",
  "\r",
  "\u001b",
  "/",
  "gpu>",
  "!x|",
  "z",
  "?",
  "w",
  "l",
  "f",
  "t",
  "\u001b[6~",
  "\u001b[B",
  "b",
  "<",
  ">",
  "r",
  "a",
  "+",
  "y",
  "H",
  "n",
  "\u0012",
);
const happening = fc.oneof(
  { weight: 3, arbitrary: pressed.map((keys) => ({ keys })) },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom("frame", "down", "auth", "hello", "log", "wait", "refused")
      .map((what) => ({ what })),
  },
);

test("whatever happens, the screen is whole: its size, and not one control character", () => {
  fc.assert(
    fc.property(
      anyCluster,
      size,
      fc.array(happening, { maxLength: 25 }),
      fc.boolean(),
      (make, { columns, rows }, all, ascii) => {
        const sample = make();
        const on = stage(columns, rows);
        const check = () => {
          const lines = screen(on, ascii ? ASCII : UTF8);
          expect(lines.length).toBe(rows);
          for (const text of lines) {
            expect(Bun.stringWidth(text)).toBe(columns);
            expect(text).not.toMatch(CONTROLS);
            if (ascii) expect(text).toMatch(/^[ -~]*$/);
          }
          const ours = painted(on)
            .join("")
            .replace(/\u001b\[[\d;]*m/g, "");
          expect(ours).not.toMatch(CONTROLS);
        };
        check();
        for (const one of all) {
          if ("keys" in one) press(on, one.keys);
          else play(on, ...happens(one.what, sample, on.state.view));
          if ("what" in one && one.what === "wait") wait(on, 3000);
          check();
        }
      },
    ),
    { numRuns: 300 },
  );
});

function happens(what: string, sample: SampleCluster, view: (typeof VIEWS)[number]): TopEvent[] {
  const [first] = sample.workers;
  switch (what) {
    case "frame": {
      const detail = first
        ? {
            worker: detailOf(first, {
              engines: [engine("w/1", { reason: EVIL, evidence: [EVIL], hint: EVIL })],
            }),
          }
        : null;
      return [
        { type: "hello", hello: hello() },
        { type: "frame", frame: frame(sample, { view, detail }) },
      ];
    }
    case "down":
      return [{ type: "down", reason: EVIL, attempt: 3, retryAt: START + 6000, isAuth: false }];
    case "auth":
      return [{ type: "down", reason: EVIL, attempt: 3, retryAt: START + 6000, isAuth: true }];
    case "hello":
      return [{ type: "hello", hello: hello({ head: { ...hello().head, id: "head-b" } }) }];
    case "log":
      return [
        {
          type: "log",
          engine: `${first?.name}/1`,
          lines: [{ time: null, text: EVIL.repeat(30) }],
          skipped: 7,
        },
      ];
    case "refused":
      return [
        {
          type: "acted",
          results: [
            {
              action: { verb: "drain", worker: EVIL, id: "id-evil", force: false },
              ok: false,
              text: EVIL,
              lastOf: [EVIL],
            },
          ],
        },
      ];
    default:
      return [];
  }
}

test("every worker on the screen has its state in words", () => {
  const on = stage(80, 24);
  play(on, { type: "hello", hello: hello() }, { type: "frame", frame: frame(cluster()) });
  const text = screen(on).join("\n");
  for (const words of ["x lost 42s", "~ load 62%", "- drain 12 ", "* ready"])
    expect(text).toContain(words);
});

test.each([120, 128, 140, 200])(
  "the figures of %i cells are whole, the last of them left out",
  (columns) => {
    const on = stage(columns, 24);
    const shown = frame(cluster());
    for (const [retries, resumed] of [
      [0, 0],
      [39, 2],
    ] as const) {
      const totals = { ...shown.totals, retries, resumed };
      play(on, { type: "hello", hello: hello() }, { type: "frame", frame: { ...shown, totals } });
      const traffic = screen(on).find((text) => text.startsWith("req/s"));
      expect(traffic?.trimEnd()).toMatch(/ err(ors)? 0\.2%( +retries 39 +resumed 2)?$/);
    }
  },
);

test("a filter hides rows and says so", () => {
  const on = stage(80, 24);
  play(on, { type: "hello", hello: hello() }, { type: "frame", frame: frame(cluster()) });
  press(on, "/state:lost\r");
  const [lost] = cluster().workers;
  play(on, { type: "frame", frame: frame(cluster(), { matching: 1, rows: lost ? [lost] : [] }) });
  const text = screen(on).join("\n");
  expect(text).toContain("/state:lost");
  expect(text).toContain("/state:lost 1 of 9");
  press(on, "\u001b");
  expect(on.state.tabs.workers.filter).toBe("");
});
