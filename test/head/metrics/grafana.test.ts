import { expect, test } from "bun:test";
import path from "node:path";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { createMetrics } from "../../../src/head/metrics/metrics.ts";
import { addWorker, cluster, T0 } from "../../cluster/fixtures.ts";
import { parseExposition } from "../../helpers/exposition.ts";
import { eventful, record } from "../../helpers/record.ts";

const DASHBOARD = path.resolve(import.meta.dir, "../../../scripts/grafana/llmnode.json");

interface Panel {
  id: number;
  type: string;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { expr: string; legendFormat: string }[];
}

interface Dashboard {
  panels: Panel[];
  templating: { list: { name: string; type: string; definition?: string }[] };
}

interface Use {
  metric: string;
  /** In its braces. */
  labels: string[];
}

const KEYWORDS = new Set(
  "by without on ignoring group_left group_right and or unless bool offset".split(" "),
);
const GROUPING = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g;

/** The metrics of a PromQL expression with their labels, and the labels that it groups by. */
function parseExpression(expression: string): { uses: Use[]; grouped: string[] } {
  const grouped = [...expression.matchAll(GROUPING)].flatMap(([, list = ""]) =>
    list.split(",").map((label) => label.trim()),
  );
  const rest = expression.replace(GROUPING, " ").replace(/\[[^\]]*\]/g, " ");
  const uses: Use[] = [];
  const token = /([a-zA-Z_:][\w:]*)\s*(?:(\()|\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?/g;
  for (const [, name = "", call, braces = ""] of rest.matchAll(token)) {
    if (call !== undefined || KEYWORDS.has(name)) continue;
    const labels = [...braces.matchAll(/([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"/g)];
    uses.push({ metric: name, labels: labels.map(([, label = ""]) => label) });
  }
  return { uses, grouped };
}

/** Every series name that a head emits after one of each event, with its labels. */
async function emitted(): Promise<Map<string, Set<string>>> {
  const state = cluster();
  for (const name of ["gpu-1", "gpu-2"]) addWorker(state, name, { models: ["qwen"] });
  const catalog = createCatalogReader(state);
  using metrics = createMetrics({
    version: "1",
    bun: "1",
    state,
    catalog,
    affinity: () => new Map(),
    now: () => T0,
  });
  for (const one of eventful()) metrics.observe(one);
  metrics.observe(record({ key: { id: "k1", name: null } }));
  const names = new Map<string, Set<string>>();
  for (const { samples } of parseExposition(await (await metrics.answer()).text()).values()) {
    for (const { name, labels } of samples) {
      names.set(name, new Set([...(names.get(name) ?? []), ...Object.keys(labels)]));
    }
  }
  return names;
}

const dashboard = (await Bun.file(DASHBOARD).json()) as Dashboard;
const targets = dashboard.panels.flatMap((panel) => panel.targets ?? []);

test("expressions are taken apart as Prometheus reads them", () => {
  const expression =
    'histogram_quantile(0.5, sum by (le, a) (rate(x_bucket{m=~"$m}", n!="1"}[$__rate_interval]))) / count(y) > bool 1';
  expect(parseExpression(expression)).toEqual({
    uses: [
      { metric: "x_bucket", labels: ["m", "n"] },
      { metric: "y", labels: [] },
    ],
    grouped: ["le", "a"],
  });
});

test("every expression of the dashboard uses metrics and labels that there are", async () => {
  const names = await emitted();
  expect(targets.length).toBeGreaterThan(25);
  const wrong: string[] = [];
  for (const { expr, legendFormat } of targets) {
    const { uses, grouped } = parseExpression(expr);
    if (uses.length === 0) wrong.push(`${expr}: no metric`);
    for (const { metric, labels } of uses) {
      const known = names.get(metric);
      if (!known) wrong.push(`${expr}: there is no ${metric}`);
      for (const label of [...labels, ...grouped]) {
        if (known && !known.has(label)) wrong.push(`${expr}: ${metric} has no ${label}`);
      }
    }
    const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = ""]) => label);
    const left = grouped.length > 0 ? grouped : [...(names.get(uses[0]?.metric ?? "") ?? [])];
    for (const label of shown) {
      if (!left.includes(label)) wrong.push(`${expr}: the legend's ${label} is not there`);
    }
  }
  expect(wrong).toEqual([]);
});

test("every metric has its place on the dashboard", async () => {
  const shown = new Set(targets.flatMap(({ expr }) => parseExpression(expr).uses).map(base));
  const all = new Set([...(await emitted()).keys()].map((metric) => base({ metric })));
  expect([...all].filter((name) => !shown.has(name))).toEqual([]);
});

test("variables ask for what there is, and every variable of an expression is defined", async () => {
  const names = await emitted();
  const { list } = dashboard.templating;
  for (const { definition } of list) {
    if (definition === undefined) continue;
    const [, metric = "", label = ""] = /^label_values\((\w+), (\w+)\)$/.exec(definition) ?? [];
    expect([definition, names.get(metric)?.has(label)]).toEqual([definition, true]);
  }
  const defined = new Set(["__rate_interval", ...list.map(({ name }) => name)]);
  const used = targets.flatMap(({ expr }) => [...expr.matchAll(/\$(\w+)/g)]);
  expect(used.map(([, name = ""]) => name).filter((name) => !defined.has(name))).toEqual([]);
});

test("panels have ids of their own and do not lie on each other", () => {
  const { panels } = dashboard;
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
  expect(panels.every(({ gridPos: { x, w } }) => x + w <= 24)).toBe(true);
});

function base({ metric }: { metric: string }): string {
  return metric.replace(/_(bucket|sum|count)$/, "");
}
