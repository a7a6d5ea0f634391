/** `llmnode top`: the cluster live, on a terminal or as text and JSON. */

import { usage } from "../base/messages.ts";
import { type View, VIEWS } from "../../protocol/watch-rows.ts";
import type { PlainOptions } from "../../top/plain.ts";
import { whoAmI } from "../drain/order.ts";
import { getStream, headClient, postJson } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import { awaitInterrupt, HUNG_UP } from "../base/interrupt.ts";
import type { CommandSpec, Invocation } from "../base/spec.ts";
import type { Terminal } from "../base/terminal.ts";
import { topLogs } from "../logs/top.ts";
import { takeTerminal } from "../daemon/top-terminal.ts";

const THEMES = ["auto", "mono", "high-contrast", "colorblind"] as const;

export const topCommand: CommandSpec = {
  name: "top",
  hasConfigTable: true,
  usage: "top [--view <view>] [--filter <words>] [--once] [--json] [--watch] [-n <frames>]",
  summary: "watch the cluster live",
  details: [
    "Keys are shown by ?. Without a terminal, in CI or with TERM=dumb it prints one snapshot and ends.",
    "A process that is killed by SIGKILL leaves the terminal as it was: `reset` repairs it.",
  ],
  options: [
    {
      flag: "interval",
      value: "<duration>",
      env: "LLMNODE_TOP_INTERVAL",
      defaultNote: "1s to 3s, by the number of workers",
      summary: "between two refreshes",
    },
    {
      flag: "view",
      value: "<view>",
      default: "workers",
      choices: VIEWS,
      summary: "workers, models, requests or events",
    },
    {
      flag: "filter",
      value: "<words>",
      summary: "only rows with these words, such as 'state:lost|failed gpu>80'",
    },
    {
      flag: "sort",
      value: "<field>",
      defaultNote: "problems",
      summary: "the order of the rows; -field turns it round",
    },
    {
      flag: "readonly",
      env: "LLMNODE_TOP_READONLY",
      summary: "keys that change something do nothing",
    },
    { flag: "once", summary: "one snapshot as text" },
    { flag: "watch", summary: "one snapshot after the other, without moving the cursor" },
    { flag: "frames", short: "n", value: "<frames>", summary: "end after so many of them" },
    { flag: "json", summary: "one JSON object; with --watch one a line" },
    {
      flag: "accessible",
      env: "LLMNODE_ACCESSIBLE",
      summary: "for screen readers: only what changes, in sentences",
    },
    { flag: "ascii", env: "LLMNODE_ASCII", summary: "no other characters than ASCII" },
    {
      flag: "theme",
      value: "<theme>",
      env: "LLMNODE_THEME",
      default: "auto",
      choices: THEMES,
      summary: `one of ${THEMES.join(", ")}`,
    },
  ],
  examples: [
    "llmnode top",
    "llmnode top --view requests",
    "llmnode top --once",
    "llmnode top --json --watch -n 10",
  ],
  run,
};

interface TopRequest {
  view: View;
  filter: string;
  sort: string | null;
  intervalMs: number | null;
  isJson: boolean;
  isOnce: boolean;
  isWatch: boolean;
  accessible: boolean;
  draw: PlainOptions["draw"];
}

async function run(invocation: Invocation, terminal: Terminal): Promise<number> {
  const { options, env } = invocation;
  const request = readRequest(invocation);
  const theme = oneOf(options.text("theme"), THEMES, "theme") ?? "auto";
  const frames = options.integer("frames", { min: 1, max: 1_000_000 });
  // It says itself what it waits for, on the screen that it draws.
  const { progress: _, ...client } = headClient(invocation);
  const head: PlainOptions["head"] = {
    stream: (path, signal) => getStream({ ...client, retryPausesMs: [] }, path, signal),
    post: (path, body) => postJson(client, path, body),
  };
  const { paletteOf } = await import("../../top/text/palette.ts");
  const palette = paletteOf(theme, terminal.color);
  await checkFilter(request.view, request.filter);
  using interrupt = awaitInterrupt();
  if (request.isJson || request.isWatch || request.isOnce || !isInteractive(terminal, env)) {
    const signal = interrupt.signal;
    await showPlain(request, { terminal, head, palette, frames, signal });
    return interrupt.code;
  }
  // Ink's colours come from us; what it finds in the environment must not take them away.
  process.env["FORCE_COLOR"] = "1";
  const { runTop } = await import("../../top/top.ts");
  using screen = await takeTerminal(env);
  const { view, sort, filter, intervalMs, draw } = request;
  const running = runTop({
    ...screen,
    options: {
      head: client.url,
      view,
      sort,
      filter,
      intervalMs,
      readonly: options.isOn("readonly"),
      who: whoAmI(env),
    },
    head,
    logs: topLogs({ ...client, retryPausesMs: [] }),
    palette,
    draw,
    signal: interrupt.signal,
  });
  const end = await Promise.race([running, screen.bug]);
  return interrupt.code || (end === "gone" ? HUNG_UP : EXIT.ok);
}

function readRequest({ options, env }: Invocation): TopRequest {
  const intervalMs = options.durationMs("interval");
  if (intervalMs !== null && (intervalMs < 200 || intervalMs > 60_000)) {
    throw options.invalid("interval", "from 200ms to 60s");
  }
  const accessible = options.isOn("accessible") || env["INK_SCREEN_READER"] === "true";
  const isAscii = options.isOn("ascii") || accessible || !speaksUtf8(env);
  const isOnce = options.isOn("once");
  return {
    view: oneOf(options.text("view"), VIEWS, "view") ?? "workers",
    filter: options.text("filter") ?? "",
    sort: options.text("sort"),
    intervalMs,
    isJson: options.isOn("json"),
    isOnce,
    isWatch: options.isOn("watch") || (accessible && !isOnce),
    accessible,
    draw: isAscii
      ? { charset: "ascii", graphs: "ascii" }
      : { charset: "utf8", graphs: env["TERM"] === "linux" ? "block" : "braille" },
  };
}

/** As text or JSON, line after line. */
async function showPlain(
  { view, sort, filter, intervalMs, isJson, isWatch, isOnce, accessible, draw }: TopRequest,
  where: Pick<PlainOptions, "head" | "palette" | "frames" | "signal"> & { terminal: Terminal },
): Promise<void> {
  const { terminal, head, palette, frames, signal } = where;
  const { FIRST_SORT } = await import("../../top/state/sorts.ts");
  const { runPlain } = await import("../../top/plain.ts");
  const isKeyless = terminal.outIsTty && process.stdin.isTTY !== true;
  if (isKeyless && !isJson && !isWatch && !isOnce) {
    terminal.err.write("no keyboard here: --watch goes on, this is one snapshot\n");
  }
  await runPlain({
    head,
    query: {
      view,
      sort: sort ?? FIRST_SORT[view],
      filter,
      offset: 0,
      limit: 1000,
      interval_ms: intervalMs ?? 1000,
      gone: false,
      models_beside: 50,
      detail: null,
    },
    frames: frames ?? (isWatch ? null : 1),
    format: isJson ? "json" : accessible ? "changes" : "text",
    pretty: terminal.outIsTty,
    width: terminal.columns ?? 120,
    palette: terminal.outIsTty ? palette : { sgr: NO_COLORS },
    draw,
    async write(text) {
      terminal.out.write(text);
      await terminal.out.flush();
    },
    isGone: () => terminal.out.isGone,
    signal,
  });
}

/** Throws `usage`: a filter that cannot be read would show nothing. */
async function checkFilter(view: View, filter: string): Promise<void> {
  const { filterProblem } = await import("../../top/state/editing.ts");
  const problem = filterProblem(view, filter);
  if (problem !== null) throw usage(`--filter: ${problem}`);
}

const NO_COLORS = {
  plain: "",
  strong: "",
  dim: "",
  good: "",
  changing: "",
  intended: "",
  broken: "",
  stale: "",
  lost: "",
  graph: "",
  chosen: "",
};

function oneOf<T extends string>(text: string | null, all: readonly T[], flag: string): T | null {
  if (text === null) return null;
  const found = all.find((one) => one === text);
  if (found !== undefined) return found;
  throw usage(`--${flag} must be one of ${all.join(", ")}, not ${text}`);
}

function isInteractive(terminal: Terminal, env: Invocation["env"]): boolean {
  const isCi = (env["CI"] ?? "") !== "" && env["CI"] !== "0" && env["CI"] !== "false";
  return terminal.outIsTty && process.stdin.isTTY === true && env["TERM"] !== "dumb" && !isCi;
}

/** By the locale; a terminal that says nothing of it is taken to be of this century. */
function speaksUtf8(env: Invocation["env"]): boolean {
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  return locale === "" || /utf-?8/i.test(locale);
}
