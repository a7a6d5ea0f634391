/** Reads Prometheus' text format as strictly as its grammar says, for tests. */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface Family {
  type: string;
  samples: Sample[];
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\["\\\\n])*"';
const NUMBER = "[-+]?(?:\\d+(?:\\.\\d+)?(?:e[-+]?\\d+)?|Inf)|NaN";
const SAMPLE = new RegExp(`^(${NAME})(?:\\{((?:${LABEL})(?:,${LABEL})*)\\})? (${NUMBER})$`);
const META = new RegExp(`^# (HELP|TYPE) (${NAME}) (.*)$`);

/**
 * The families of a scrape by name. Throws for a line that the grammar does not have, a family
 * that is told twice or lies in pieces, a series that is there twice, a histogram that is none.
 */
export function parseExposition(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  const helped = new Set<string>();
  const series = new Set<string>();
  let current: { name: string; family: Family } | null = null;
  if (!text.endsWith("\n")) throw new Error("the last line does not end");
  for (const line of text.slice(0, -1).split("\n")) {
    const meta = META.exec(line);
    if (meta) {
      const [, what, name = "", rest = ""] = meta;
      if (what === "HELP") {
        if (helped.has(name)) throw new Error(`two HELP for ${name}`);
        helped.add(name);
        continue;
      }
      if (families.has(name)) throw new Error(`two TYPE for ${name}`);
      current = { name, family: { type: rest, samples: [] } };
      families.set(name, current.family);
      continue;
    }
    const match = SAMPLE.exec(line);
    if (!match) throw new Error(`no line of the format: ${JSON.stringify(line)}`);
    const [, name = "", labels = "", value = ""] = match;
    if (!current || familyOf(name, current.family.type) !== current.name) {
      throw new Error(`${name} lies outside its family`);
    }
    const sample = { name, labels: labelsOf(labels), value: numberOf(value) };
    const key = `${name} ${seriesKey(sample.labels)}`;
    if (series.has(key)) throw new Error(`twice: ${key}`);
    series.add(key);
    current.family.samples.push(sample);
  }
  for (const [name, { type, samples }] of families) {
    if (type === "histogram") checkHistogram(name, samples);
  }
  return families;
}

/** The value of one series, or undefined. */
export function valueOf(
  families: Map<string, Family>,
  name: string,
  labels: Record<string, string> = {},
): number | undefined {
  const wanted = seriesKey(labels);
  for (const { samples } of families.values()) {
    const found = samples.find((one) => one.name === name && seriesKey(one.labels) === wanted);
    if (found) return found.value;
  }
  return undefined;
}

function familyOf(name: string, type: string): string {
  return type === "histogram" ? name.replace(/_(bucket|sum|count)$/, "") : name;
}

function labelsOf(text: string): Record<string, string> {
  const pairs = [...text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)];
  const unescape = (value: string) =>
    value.replace(/\\(.)/g, (_, char: string) => (char === "n" ? "\n" : char));
  return Object.fromEntries(pairs.map(([, name = "", value = ""]) => [name, unescape(value)]));
}

function numberOf(text: string): number {
  return /Inf$/.test(text) ? (text.startsWith("-") ? -Infinity : Infinity) : Number(text);
}

function seriesKey(labels: Record<string, string>): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Buckets grow with their bounds and end with +Inf, which is the count. */
function checkHistogram(name: string, samples: readonly Sample[]): void {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { le: _, ...rest } = sample.labels;
    const key = seriesKey(rest);
    groups.set(key, [...(groups.get(key) ?? []), sample]);
  }
  for (const [key, group] of groups) {
    const buckets = group.filter((one) => one.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => numberOf(labels["le"] ?? ""));
    const counts = buckets.map(({ value }) => value);
    const isSorted = (values: number[]) => values.every((v, i) => i === 0 || v >= values[i - 1]!);
    const count = group.find((one) => one.name === `${name}_count`)?.value;
    const sum = group.find((one) => one.name === `${name}_sum`)?.value;
    if (!isSorted(bounds) || !isSorted(counts) || bounds.at(-1) !== Infinity) {
      throw new Error(`${name} ${key} is not cumulative`);
    }
    if (count === undefined || sum === undefined || counts.at(-1) !== count) {
      throw new Error(`${name} ${key}: +Inf is not the count`);
    }
  }
}
