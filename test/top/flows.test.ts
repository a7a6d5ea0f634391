import { describe, expect, test } from "bun:test";
import type { WatchFrame } from "../../src/protocol/watch-json.ts";
import { queryOf, type TopState } from "../../src/top/state/state.ts";
import { pageRowsOf } from "../../src/top/state/layout.ts";
import { cluster, engine, frame, hello, manyWorkers, replicas, detailOf } from "./sample.ts";
import { play, press, screen, type Stage, stage, wait } from "./show.ts";

function live(columns = 80, rows = 24, more: Partial<WatchFrame> = {}): Stage {
  const on = stage(columns, rows);
  play(on, { type: "hello", hello: hello() }, { type: "frame", frame: frame(cluster(), more) });
  return on;
}

/** A frame for what is asked for now, as the head would send it. */
function answer(on: Stage, more: Partial<WatchFrame> = {}, sample = cluster()): void {
  const { view, offset } = queryOf(on.state, pageRowsOf(on.state));
  play(on, { type: "frame", frame: frame(sample, { view, offset, ...more }) });
}

const chosen = ({ state }: Stage) => state.tabs[state.view].chosen;
const flashed = ({ state }: Stage) => state.flash?.text ?? "";
const page = ({ state }: Stage) => state.page.kind;

const DOWN = "\u001b[B";
const ESC = "\u001b";

describe("each key of the help page", () => {
  test.each<[string, string, (on: Stage) => unknown, unknown]>([
    ["j", "j", chosen, "gpu-08"],
    ["Down twice", DOWN + DOWN, chosen, "gpu-03"],
    ["k after j", "jjk", chosen, "gpu-08"],
    ["Up stops at the top", "\u001b[A", chosen, "gpu-09"],
    ["G", "G", chosen, "gpu-07"],
    ["End, Home", "\u001b[F\u001b[H", chosen, "gpu-09"],
    ["g", "Gg", chosen, "gpu-09"],
    ["PgDn", "\u001b[6~", chosen, "gpu-07"],
    ["Tab", "\t", ({ state }) => state.view, "models"],
    ["S-Tab", "\u001b[Z", ({ state }) => state.view, "events"],
    ["2", "2", ({ state }) => state.view, "models"],
    ["3", "3", ({ state }) => state.view, "requests"],
    ["4", "4", ({ state }) => state.view, "events"],
    ["1 from elsewhere", "41", ({ state }) => state.view, "workers"],
    [
      "Space marks and goes on",
      " ",
      ({ state }) => [[...state.marks.keys()], state.tabs.workers.cursor],
      [["gpu-09"], 1],
    ],
    ["Space again unmarks", " k ", ({ state }) => state.marks.size, 0],
    ["*", "  *", ({ state }) => state.marks.size, 0],
    ["Enter", "\r", ({ state }) => state.page, { kind: "worker", name: "gpu-09", scroll: 0 }],
    ["Esc from there", `\r${ESC}`, page, "table"],
    [
      "l",
      "l",
      ({ state }) => (state.page.kind === "logs" ? state.page.logs.engine : ""),
      "gpu-09/1",
    ],
    ["e", "je", ({ state }) => state.page, { kind: "worker", name: "gpu-08", scroll: 0 }],
    ["s", "s", ({ state }) => state.dialog, { kind: "sort", cursor: 0 }],
    [
      "s, down, Enter",
      `s${DOWN}\r`,
      ({ state }) => [state.tabs.workers.sort, state.dialog],
      ["name", null],
    ],
    ["s, Esc", `s${ESC}`, ({ state }) => state.dialog, null],
    [">", ">", ({ state }) => state.tabs.workers.sort, "name"],
    ["<", "<", ({ state }) => state.tabs.workers.sort, "-uptime_ms"],
    ["r", ">r", ({ state }) => state.tabs.workers.sort, "-name"],
    ["r of problems does nothing", "r", ({ state }) => state.tabs.workers.sort, "problems"],
    [
      "b",
      "b",
      ({ state }) => [state.tabs.workers.group, state.tabs.workers.sort],
      ["model", "model"],
    ],
    [
      "b until it ends",
      "bbbb",
      ({ state }) => [state.tabs.workers.group, state.tabs.workers.sort],
      [null, "problems"],
    ],
    ["b where nothing groups", "2b", flashed, "models are not grouped"],
    ["a", "a", ({ state }) => queryOf(state, 10).gone, true],
    ["w", "w", ({ state }) => state.wide, true],
    ["z", "z", ({ state }) => state.frozen !== null, true],
    ["z again", "zz", ({ state }) => state.frozen, null],
    ["+", "+", ({ state }) => queryOf(state, 10).interval_ms, 500],
    ["-", "-", ({ state }) => queryOf(state, 10).interval_ms, 2000],
    ["? and back", "??", ({ state }) => state.dialog, null],
    ["?", "?", ({ state }) => state.dialog, { kind: "help" }],
    ["y", "y", flashed, "copied: gpu-09"],
    [
      "a capital that is none of ours",
      "Q",
      flashed,
      "no such key: capitals change something, is Caps Lock on?",
    ],
  ])("%s", (_, keys, of, expected) => {
    const on = live();
    press(on, keys);
    expect(of(on)).toEqual(expected);
  });

  test.each<[string, string, object]>([
    ["q", "q", { do: "quit" }],
    ["Ctrl-C, in a dialog too", "D\u0003", { do: "quit" }],
    ["Ctrl-R", "\u0012", { do: "reconnect" }],
    ["y", "jy", { do: "copy", text: "gpu-08" }],
  ])("%s is done outside", (_, keys, effect) => {
    expect(press(live(), keys)).toEqual([effect] as never);
  });
});

describe("what is chosen", () => {
  test("stays chosen while rows move", () => {
    const on = live();
    press(on, "jj");
    expect(chosen(on)).toBe("gpu-03");
    const turned = { ...cluster(), workers: cluster().workers.toReversed() };
    answer(on, {}, turned);
    expect([chosen(on), on.state.tabs.workers.cursor]).toEqual(["gpu-03", 6]);
    expect(screen(on).find((line) => line.startsWith(">"))).toContain("gpu-03");
  });

  test("stays at the top until a person has moved: the worst comes there", () => {
    const on = live();
    answer(on, {}, { ...cluster(), workers: cluster().workers.toReversed() });
    expect(screen(on).find((line) => line.startsWith(">"))).toContain("gpu-07");
  });

  test("of a thousand rows only a window is asked for, in whole pages", () => {
    const on = stage(80, 24);
    const many = manyWorkers(1000);
    play(on, { type: "hello", hello: hello() });
    answer(on, {}, many);
    const rows = pageRowsOf(on.state);
    expect(queryOf(on.state, rows)).toMatchObject({ offset: 0, limit: 4 * rows });
    press(on, "j".repeat(3 * rows));
    const { offset, limit } = queryOf(on.state, rows);
    expect(offset % rows).toBe(0);
    expect(offset).toBeLessThanOrEqual(on.state.tabs.workers.scroll);
    expect(offset + limit).toBeGreaterThan(on.state.tabs.workers.cursor);
    press(on, "G");
    expect(screen(on).join("\n")).toContain("...");
    answer(on, {}, many);
    expect(screen(on).find((line) => line.startsWith(">"))).toContain("gpu-999");
    expect(chosen(on)).toBe("gpu-999");
  });

  test("a frozen screen keeps its rows, and what is asked elsewhere ends that", () => {
    const on = live();
    press(on, "z");
    answer(on, {}, { ...cluster(), workers: [] });
    wait(on, 12_000);
    expect(screen(on)[0]).toContain("FROZEN 12s");
    expect(screen(on).join("\n")).toContain("gpu-05");
    press(on, "G\u001b[6~");
    expect(screen(on).find((line) => line.startsWith(">"))).toContain("gpu-07");
    press(on, "2");
    expect(on.state.frozen).toBeNull();
  });
});

describe("filters", () => {
  test("hold as they are typed, and the last good one goes on to hold", () => {
    const on = live();
    press(on, "/state:lo");
    expect(on.state.tabs.workers.filter).toBe("state:lo");
    press(on, "st gpu>");
    expect(on.state.tabs.workers.filter).toBe("state:lost gpu");
    expect(screen(on).at(-1)).toContain("no value for gpu (column 16)");
    press(on, "\r");
    expect(on.state.editing).not.toBeNull();
    press(on, "80\r");
    expect([on.state.editing, on.state.tabs.workers.filter]).toEqual([null, "state:lost gpu>80"]);
  });

  test("a field that there is not is told before the head is asked", () => {
    const on = live();
    press(on, "/colour:red");
    expect(on.state.tabs.workers.filter).toBe("colour");
    expect(screen(on).at(-1)).toContain("no field colour (column 1)");
  });

  test("are of one view each; Esc clears them last of all", () => {
    const on = live();
    press(on, "/lost\r 2");
    expect(on.state.tabs.models.filter).toBe("");
    press(on, "1 ");
    press(on, ESC);
    expect([on.state.marks.size, on.state.tabs.workers.filter]).toEqual([0, "lost"]);
    press(on, ESC);
    expect(on.state.tabs.workers.filter).toBe("");
  });

  test("are edited like a line", () => {
    const on = live();
    press(on, "/gpx\u007fu\u001b[D\u001b[D\u001b[3~P\u001b[H!\u001b[F9");
    expect(on.state.editing).toEqual({ what: "filter", text: "!gPu9", cursor: 5 });
    press(on, "\u0015");
    expect(on.state.editing?.text).toBe("");
    press(on, `\u001b[200~${"x".repeat(9000)}\u001b[201~`);
    expect(on.state.editing?.text.length).toBe(512);
  });

  test("what the head says of one is shown", () => {
    const on = live();
    answer(on, { filter_problem: { message: "no field x", at: 0 }, rows: [], matching: 0 });
    expect(screen(on).join("\n")).toContain("the filter: no field x");
  });
});

describe("dialogs", () => {
  const acts = (effects: readonly unknown[]) => effects as { do: string; actions: object[] }[];

  test("Enter cancels, y does it", () => {
    const on = live();
    press(on, "jjj");
    expect(press(on, "D\r")).toEqual([]);
    expect(on.state.dialog).toBeNull();
    const [effect] = acts(press(on, "Dy"));
    expect(effect?.do).toBe("act");
    expect(effect?.actions).toEqual([
      { verb: "drain", worker: "gpu-01", id: "id-gpu-01", force: false },
    ]);
  });

  test("Tab takes the focus to doing it, and back", () => {
    const on = live();
    expect(press(on, "jjjR\t\t\r")).toEqual([]);
    expect(acts(press(on, "R\t\r"))[0]?.actions).toMatchObject([{ verb: "restart" }]);
  });

  test("to undo a drain, Enter is enough", () => {
    const on = live();
    press(on, "jj");
    expect(chosen(on)).toBe("gpu-03");
    expect(acts(press(on, "U\r"))[0]?.actions).toMatchObject([
      { verb: "undrain", worker: "gpu-03" },
    ]);
  });

  test.each([
    ["X", "jX", "only workers that are lost or have left can be forgotten"],
    ["U", "jjjU", "none of these is drained"],
    ["K among workers", "K", "that is for requests: press 3"],
    ["D among events", "4D", "that is for workers: press 1"],
  ])("%s says why not", (_, keys, why) => {
    const on = live();
    press(on, keys);
    expect([flashed(on), on.state.dialog]).toEqual([why, null]);
  });

  test("more than a quarter of the GPUs: their number must be typed", () => {
    const on = live();
    press(on, "jj   ");
    press(on, "D");
    expect(screen(on).join("\n")).toContain("Type 3 to confirm");
    expect(press(on, "y\r")).toEqual([]);
    press(on, "\u007f");
    const [effect] = acts(press(on, "3\r"));
    expect(effect?.actions).toHaveLength(3);
    expect(on.state.marks.size).toBe(0);
  });

  test("what is marked is meant, even when its rows are out of sight", () => {
    const on = stage(80, 24);
    const many = manyWorkers(1000);
    play(on, { type: "hello", hello: hello() });
    answer(on, {}, many);
    press(on, "  G");
    answer(on, {}, many);
    const [effect] = acts(press(on, "Dy"));
    expect(effect?.actions).toMatchObject([{ worker: "gpu-037" }, { worker: "gpu-121" }]);
  });

  test("the last replica of a model: its name must be typed, and then it is forced", () => {
    const on = live();
    press(on, "jjj");
    const action = { verb: "drain" as const, worker: "gpu-01", id: "id-gpu-01", force: false };
    const lastOf = ["Qwen/Qwen3-8B"];
    play(on, { type: "acted", results: [{ action, ok: false, text: "no", lastOf }] });
    expect(screen(on).join("\n")).toContain("it will have NO ready replica after this");
    expect(press(on, "Qwen/Qwen3-8\r")).toEqual([]);
    expect(screen(on).join("\n")).toContain("( not complete )");
    expect(acts(press(on, "B\r"))[0]?.actions).toEqual([{ ...action, force: true }]);
  });

  test("a name that nobody can type is asked for by its beginning", () => {
    const on = live();
    const action = { verb: "drain" as const, worker: "w", id: "w", force: false };
    const lastOf = [`\u001b[2Jx${"y".repeat(1_000_000)}`];
    play(on, { type: "acted", results: [{ action, ok: false, text: "no", lastOf }] });
    expect(acts(press(on, `x${"y".repeat(39)}\r`))).toHaveLength(1);
  });

  test("data that are late are told, and nothing is done with old ones", () => {
    const on = live();
    wait(on, 4000);
    press(on, "D");
    expect(screen(on).join("\n")).toContain("! The data are 4.0s old.");
    wait(on, 4000);
    expect(press(on, "y")).toEqual([]);
    expect(flashed(on)).toBe("not while the data are old");
  });

  test("a viewer is told so", () => {
    const on = stage();
    play(
      on,
      { type: "hello", hello: hello({ role: "viewer" }) },
      { type: "frame", frame: frame(cluster()) },
    );
    press(on, "D");
    expect(flashed(on)).toContain("this key may only look; changes need an operator's key");
    expect(screen(on)[0]).toContain("RO viewer");
  });

  test("requests are cancelled by their ids", () => {
    const on = live();
    press(on, "3");
    answer(on);
    const [effect] = acts(press(on, "Ky"));
    expect(effect?.actions).toMatchObject([{ verb: "cancel", request: expect.any(String) }]);
  });
});

describe("logs", () => {
  const log = (on: Stage, ...texts: string[]) =>
    play(on, {
      type: "log",
      engine: "gpu-09/1",
      lines: texts.map((text) => ({ time: null, text })),
      skipped: 0,
    });
  const many = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => `line ${from + i}`);
  const logs = ({ page: now }: TopState) => {
    if (now.kind !== "logs") throw new Error("no log is looked at");
    return now.logs;
  };
  const open = () => {
    const on = live();
    press(on, "l");
    log(on, ...many(0, 100));
    return on;
  };

  test("are followed until a person scrolls up, and again at the end", () => {
    const on = open();
    expect(screen(on).join("\n")).toContain("line 99");
    press(on, "k");
    log(on, "line 100", "line 101");
    expect(logs(on.state)).toMatchObject({ follow: false, scroll: 3 });
    expect(screen(on).join("\n")).not.toContain("line 101");
    press(on, "G");
    expect(screen(on).join("\n")).toContain("line 101");
    expect(logs(on.state).follow).toBe(true);
    press(on, "f");
    expect(logs(on.state).follow).toBe(false);
  });

  test("are searched upwards, n and N go on, and what is found stands out", () => {
    const on = open();
    press(on, "/LINE 5\r");
    expect(screen(on).join("\n")).toContain("line 59");
    const at = logs(on.state).scroll;
    press(on, "n");
    expect(logs(on.state).scroll).toBe(at + 1);
    press(on, "N");
    expect(logs(on.state).scroll).toBe(at);
    press(on, "/nowhere\r");
    expect(logs(on.state).scroll).toBe(at);
  });

  test("p asks for the run before, 0 to 6 how far back; both begin anew", () => {
    const on = open();
    press(on, "p");
    expect(logs(on.state)).toMatchObject({ previous: true, lines: [] });
    press(on, "3");
    expect(logs(on.state).sinceMs).toBe(300_000);
    press(on, "0");
    expect(logs(on.state).sinceMs).toBeNull();
    expect(logs(on.state).previous).toBe(true);
  });

  test("w wraps, t says that there are no times", () => {
    const on = open();
    log(on, "x".repeat(100));
    press(on, "w");
    expect(
      screen(on).some(
        (line) => line.startsWith("x".repeat(20)) && !line.startsWith("x".repeat(21)),
      ),
    ).toBe(true);
    press(on, "t");
    expect(flashed(on)).toBe("this log has no times");
  });

  test("no more lines are kept than 5000, and what is left out is told", () => {
    const on = open();
    log(on, ...many(100, 6100));
    expect(logs(on.state).lines).toHaveLength(5000);
    expect(screen(on).join("\n")).toContain("1100 lines skipped. All of it: llmnode logs gpu-09/1");
  });

  test("a line that is still written is one line", () => {
    const on = open();
    const live1 = (text: string) =>
      play(on, { type: "log", engine: "gpu-09/1", lines: [], skipped: 0, live: text });
    live1("loading 56% 5/9");
    live1("loading 67% 6/9");
    const text = screen(on).join("\n");
    expect(text).toContain("loading 67% 6/9");
    expect(text).not.toContain("56%");
    log(on, "loaded");
    expect(screen(on).join("\n")).not.toContain("loading 67%");
  });

  test("of another engine than is looked at are dropped", () => {
    const on = open();
    play(on, {
      type: "log",
      engine: "gpu-01/1",
      lines: [{ time: null, text: "secret" }],
      skipped: 0,
    });
    expect(screen(on).join("\n")).not.toContain("secret");
  });

  test("that broke off with the connection come anew with it", () => {
    const on = open();
    play(on, { type: "log_ended", engine: "gpu-09/1", reason: "gone" });
    expect(screen(on).join("\n")).toContain("gone");
    play(on, { type: "hello", hello: hello() });
    expect(logs(on.state)).toMatchObject({ take: 1, ended: null, lines: [] });
  });

  test("Tab goes to the next engine of the same model, Esc back to where one was", () => {
    const on = live();
    press(on, "2");
    const [model] = cluster().models;
    if (!model) throw new Error("no model");
    answer(on);
    press(on, "\r");
    answer(on, { detail: { model: { ...model, engines: replicas(model.name) } } });
    press(on, "l\t");
    expect(logs(on.state).engine).toBe("gpu-02/1");
    press(on, "\u001b[Z\u001b[Z");
    expect(logs(on.state).engine).toBe("gpu-09/1");
    press(on, ESC);
    expect(page(on)).toBe("model");
  });
});

describe("pages", () => {
  test("a worker, its engines and GPUs, scrolled", () => {
    const on = live();
    press(on, "jjj\r");
    const [, , , worker] = cluster().workers;
    if (!worker) throw new Error("no worker");
    expect(queryOf(on.state, 10).detail).toBe("gpu-01");
    expect(screen(on).join("\n")).toContain("looking for gpu-01");
    answer(on, { detail: { worker: detailOf(worker, { engines: [engine("gpu-01/1")] }) } });
    expect(screen(on).join("\n")).toContain("-- engine gpu-01/1 vllm");
    press(on, "G");
    expect(screen(on).join("\n")).not.toContain("-- engine gpu-01/1");
  });

  test("the replicas of the chosen model are beside the models", () => {
    const on = live();
    press(on, "2");
    answer(on);
    expect(queryOf(on.state, 10).detail).toBe("Qwen/Qwen3-235B-A22B");
    const [model] = cluster().models;
    if (!model) throw new Error("no model");
    answer(on, { detail: { model: { ...model, engines: replicas(model.name) } } });
    const text = screen(on).join("\n");
    expect(text).toContain("-- replicas of Qwen/Qwen3-235B-A22B");
    expect(text).toContain("gpu-09/1");
  });

  test("an event leads to its worker", () => {
    const on = live();
    press(on, "4");
    answer(on);
    press(on, "j\r");
    expect(on.state.page).toEqual({ kind: "worker", name: "gpu-09", scroll: 0 });
    expect(on.state.view).toBe("workers");
  });
});
