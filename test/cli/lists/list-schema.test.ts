import { describe, expect, test } from "bun:test";
import { ENGINES } from "../../../src/cli/lists/engines.ts";
import { EVENTS } from "../../../src/cli/lists/events.ts";
import { MODELS } from "../../../src/cli/lists/models.ts";
import { REQUESTS } from "../../../src/cli/lists/requests.ts";
import { WORKERS } from "../../../src/cli/lists/workers.ts";
import { showReport, unknownReport } from "../../../src/protocol/engine-report.ts";
import type { EngineRow, WorkerRow } from "../../../src/protocol/watch-rows.ts";
import {
  cluster,
  detailOf,
  engine,
  loading,
  manyWorkers,
  model,
  nineWorkers,
  replicas,
  request,
  worker,
} from "../../top/sample.ts";
import { ENGINE, EVENT, faultsOf, MODEL, REQUEST, WORKER } from "./list-kinds.ts";
import { nothing, run, startListHead, type Told } from "./list-head.ts";

const SCHEMAS = [
  { words: ["workers", "--all"], listing: WORKERS, kinds: WORKER },
  { words: ["models"], listing: MODELS, kinds: MODEL },
  { words: ["ps"], listing: ENGINES, kinds: ENGINE },
  { words: ["requests"], listing: REQUESTS, kinds: REQUEST },
  { words: ["events"], listing: EVENTS, kinds: EVENT },
] as const;

function unknownEngine(name: string): EngineRow {
  const unknown = { queue: null, kv_pct: null, output_tokens_per_s: null, ttft_ms: null };
  return engine(name, { ...showReport(unknownReport(0), 0), ...unknown, models: [], route: null });
}

function statusOf(workers: readonly WorkerRow[]): Told["status"] {
  return {
    workers: workers.map((row) => detailOf(row, { engines: [engine(`${row.name}/1`)] })),
    models: [],
    services: [],
  };
}

const HOSTILE = `\u009b2J\u001b[31mred\u001b]0;title\u0007\nline\u202e${"x".repeat(5000)}`;

const CLUSTERS: Record<string, Told> = {
  "without anything": nothing(),
  "of nine workers": { ...cluster(), status: statusOf(nineWorkers()) },
  "of 300 workers": { ...manyWorkers(300), status: statusOf(manyWorkers(300).workers) },
  "with details and nothing known": {
    workers: [
      worker("gpu-a", { engines: [engine("gpu-a/1"), loading("gpu-a/2")], sparkline: [1, null] }),
      worker("gpu-b", { state: "left", ttft_ms: null, uptime_ms: null, route: null, gpus: [] }),
    ],
    models: [model("m", { engines: replicas("m"), context: null, kinds: [], workers: [] })],
    requests: [request("r1", { model: null, worker: null, engine: null, timeline: [] })],
    events: [],
    status: {
      workers: [detailOf(worker("gpu-a"), { engines: [unknownEngine("gpu-a/1")] })],
      models: [],
      services: [],
    },
  },
  "that means no good": {
    workers: [worker(HOSTILE, { reason: HOSTILE, labels: { [HOSTILE]: HOSTILE } })],
    models: [model(HOSTILE, { workers: [HOSTILE] })],
    requests: [request(HOSTILE, { model: HOSTILE })],
    events: [{ ...cluster().events[0]!, text: HOSTILE, worker: HOSTILE }],
    status: statusOf([worker(HOSTILE, { reason: HOSTILE })]),
  },
};

describe.each(Object.entries(CLUSTERS))("a cluster %s", (_, told) => {
  test.each(SCHEMAS.map((one) => [one.words[0], one] as const))(
    "%s as JSON and as tables",
    async (_name, { words, listing, kinds }) => {
      await using head = startListHead(told);
      const { code, stdout, stderr } = await run(head, [...words, "--json"]);
      expect([code, stderr, stdout.split("\n").length]).toEqual([0, "", 2]);
      // oxlint-disable-next-line no-control-regex
      expect(stdout).not.toMatch(/[\u0000-\u0009\u007f-\u009f\u202e]/);
      const document = JSON.parse(stdout) as Record<string, unknown>;
      expect(Object.keys(document)).toEqual([
        "schema",
        "head",
        "age_ms",
        "stale",
        "total",
        listing.member,
      ]);
      expect(document).toMatchObject({
        schema: listing.schema,
        head: { id: "head-a", time: "2026-02-03T14:02:31.000Z" },
        stale: false,
      });
      const rows = document[listing.member] as Record<string, unknown>[];
      expect(document["total"]).toBe(rows.length);
      for (const row of rows) {
        expect(faultsOf(row, kinds)).toEqual([]);
      }
      for (const more of [[], ["--wide"], ["--wide", "--no-trunc"], ["--ascii"]]) {
        const table = await run(head, [...words, ...more], { columns: 100 });
        expect(table.code).toBe(0);
        const lines = table.stdout.split("\n").slice(0, -1);
        if (rows.length === 0) {
          expect([table.stdout, table.stderr.split("\n").length]).toEqual(["", 2]);
          continue;
        }
        expect([table.stderr, lines.length]).toEqual(["", rows.length + 1]);
        expect(lines[0]).toMatch(/^[A-Z]/);
        // oxlint-disable-next-line no-control-regex
        expect(table.stdout.replaceAll("\n", "")).not.toMatch(/[\u0000-\u001f\u007f\u202e]/);
        if (more.includes("--ascii")) expect(table.stdout).toMatch(/^[\n\u0020-\u007e]*$/);
        if (more.includes("--no-trunc")) continue;
        expect(Math.max(...lines.map((line) => Bun.stringWidth(line)))).toBeLessThanOrEqual(100);
      }
    },
  );
});

test.each(SCHEMAS.map((one) => [one.words[0], one] as const))(
  "%s: what tables show are fields of the JSON, and each can be asked for",
  async (_, { words, listing, kinds }) => {
    expect([...listing.fields].sort()).toEqual(Object.keys(kinds).sort());
    for (const { field, head } of listing.columns) {
      expect(listing.fields).toContain(field);
      expect(head).toBe(head.toUpperCase());
    }
    await using head = startListHead(CLUSTERS["of nine workers"]);
    const chosen = [...listing.fields].reverse();
    const flag = `--fields=${chosen.join(",")}`;
    const { stdout } = await run(head, [...words, "--json", flag]);
    const document = JSON.parse(stdout) as Record<string, Record<string, unknown>[]>;
    expect(Object.keys(document[listing.member]?.[0] ?? {})).toEqual(chosen);
    expect((await run(head, [...words, flag])).code).toBe(0);
  },
);
