// The screens as they are, cell by cell: `UPDATE_GOLDEN=1 bun test test/top/golden.test.ts` writes
// them anew, and the difference is then to be read.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { type WatchFrame, WATCH_SCHEMA } from "../../src/protocol/watch-json.ts";
import { paletteOf } from "../../src/top/text/palette.ts";
import { paintFrame, renderFrame } from "../../src/top/components/frame.ts";
import { snapshotLines } from "../../src/top/plain.ts";
import { textOf } from "../../src/top/text/styled.ts";
import {
  cluster,
  frame,
  hello,
  loading,
  manyWorkers,
  replicas,
  type SampleCluster,
  detailOf,
} from "./sample.ts";
import { ASCII, play, press, screen, type Stage, stage, UTF8, wait } from "./show.ts";

const EMPTY: SampleCluster = { workers: [], models: [], requests: [], events: [] };

function live(
  columns: number,
  rows: number,
  more: Partial<WatchFrame> = {},
  sample = cluster(),
): Stage {
  const on = stage(columns, rows);
  play(on, { type: "hello", hello: hello() }, { type: "frame", frame: frame(sample, more) });
  on.now += 300;
  play(on, { type: "tick" });
  return on;
}

function looking(on: Stage, keys: string, more: Partial<WatchFrame> = {}): Stage {
  press(on, keys);
  play(on, { type: "frame", frame: frame(cluster(), { view: on.state.view, ...more }) });
  return on;
}

function down(on: Stage, isAuth: boolean, reason: string): Stage {
  wait(on, 26_700);
  const retryAt = on.now + 6000;
  play(on, { type: "down", reason, attempt: 4, retryAt, isAuth });
  return on;
}

const [, loadingWorker] = cluster().workers;
const [model] = cluster().models;
if (!loadingWorker || !model) throw new Error("the sample has changed");
const detail = { model: { ...model, engines: replicas(model.name) } };

const SCREENS: Readonly<Record<string, () => Stage>> = {
  workers: () => live(80, 24),
  models: () => looking(live(80, 24), "2", { detail }),
  model: () => looking(looking(live(80, 24), "2"), "\r", { detail }),
  requests: () => looking(live(80, 24), "3"),
  request: () => looking(looking(live(80, 24), "3"), "\r"),
  events: () => looking(live(80, 24), "4"),
  empty: () => live(80, 24, {}, EMPTY),
  loading: () =>
    looking(live(80, 24), "j\r", {
      detail: {
        worker: detailOf(loadingWorker, {
          labels: { zone: "b", rack: "7" },
          engines: [loading("gpu-08/1")],
          sparkline: [0, 0, 3, 9, 20, 31, 12],
        }),
      },
    }),
  logs: () => {
    const on = live(80, 24);
    press(on, "jl");
    const texts = [
      "vllm API server version 0.32.0",
      "non-default args: model=deepseek-ai/DeepSeek-V3 tensor_parallel_size=8 enable_prefix_caching",
      "Starting to load model deepseek-ai/DeepSeek-V3...",
      "WARNING custom_all_reduce disabled: no NVLink between GPU 3 and 7",
      "ERROR nothing of importance",
    ];
    play(on, {
      type: "log",
      engine: "gpu-08/1",
      lines: texts.map((text) => ({ time: null, text })),
      skipped: 1204,
      live: "Loading safetensors checkpoint shards: 62% Completed | 101/163",
    });
    return on;
  },
  confirm: () => {
    const on = live(80, 24);
    press(on, "jjjD");
    return on;
  },
  "confirm-severe": () => {
    const on = live(80, 24);
    press(on, "jjj");
    const action = { verb: "drain" as const, worker: "gpu-06", id: "6", force: false };
    const lastOf = ["Qwen/Qwen3-8B"];
    play(on, { type: "acted", results: [{ action, ok: false, text: "no", lastOf }] });
    press(on, "Qwen/Qw");
    return on;
  },
  sort: () => {
    const on = live(80, 24);
    press(on, "sjj");
    return on;
  },
  filter: () => {
    const on = live(80, 24);
    press(on, "/state:lost gpu>");
    return on;
  },
  unreachable: () => down(live(80, 24), false, "connection refused"),
  "not-allowed": () => down(live(80, 24), true, "no such key"),
  restarted: () => {
    const on = down(live(80, 24), false, "connection refused");
    const few = { ...cluster(), workers: cluster().workers.slice(0, 2) };
    const other = { ...hello(), head: { ...hello().head, id: "head-b" } };
    play(on, { type: "hello", hello: other }, { type: "frame", frame: frame(few) });
    wait(on, 3000);
    play(on, { type: "frame", frame: frame(few) });
    return on;
  },
  connecting: () => {
    const on = stage(80, 24);
    wait(on, 1200);
    return on;
  },
  "200-workers": () => live(80, 24, {}, manyWorkers(200)),
  help: () => {
    const on = live(80, 24);
    press(on, "?");
    return on;
  },
  overview: () => live(160, 45),
  "200-workers-wide": () => live(160, 45, {}, manyWorkers(200)),
  "1000-workers-wide": () => live(160, 45, {}, manyWorkers(1000)),
  narrow: () => live(60, 20),
  low: () => live(80, 10),
  tiny: () => live(46, 3),
};

/** Colours as `<sgr>`, so that a person can read the file; the spaces at the end of lines stay out. */
function inMono(on: Stage): string[] {
  return paintFrame(renderFrame(on.state, UTF8), paletteOf("mono", true)).map((line) =>
    // oxlint-disable-next-line no-control-regex
    line.replace(/\u001b\[([\d;]*)m/g, (_, codes: string) => `<${codes === "0" ? "" : codes}>`),
  );
}

async function matches(name: string, lines: readonly string[]): Promise<void> {
  const text = `${lines.map((line) => line.trimEnd()).join("\n")}\n`;
  const file = Bun.file(join(import.meta.dir, "golden", `${name}.txt`));
  if ((process.env["UPDATE_GOLDEN"] ?? "") !== "") await Bun.write(file, text);
  expect(text).toBe(await file.text());
}

// The clock on the screen is of this machine's time zone.
process.env.TZ = "UTC";

for (const [name, make] of Object.entries(SCREENS)) {
  test(`${name}: utf8, ascii, mono`, async () => {
    const on = make();
    await matches(`${name}.utf8`, screen(on));
    await matches(`${name}.ascii`, screen(on, ASCII));
    await matches(`${name}.mono`, inMono(on));
  });
}

test("the snapshot as text", async () => {
  const lines = snapshotLines(frame(cluster()), { width: 100, draw: UTF8 });
  expect(frame(cluster()).schema).toBe(WATCH_SCHEMA);
  await matches(
    "snapshot",
    lines.map(({ spans }) => textOf(spans)),
  );
});
