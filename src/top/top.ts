/** `llmnode top` on a terminal: keys and frames in, screens out, until a person has seen enough. */

import { messageOf } from "../protocol/errors.ts";
import { doActions } from "./client/acts.ts";
import {
  type ClientSettings,
  type HeadCalls,
  startClient,
  type WatchClient,
} from "./client/client.ts";
import type { DrawOptions } from "./components/drawn.ts";
import { openDisplay } from "./display.ts";
import { type Keyboard, readKeyboard } from "./terminal/keys.ts";
import { pageRowsOf } from "./state/layout.ts";
import { type LogSource, startLogReader } from "./client/log-reader.ts";
import type { Palette } from "./text/palette.ts";
import type { Effect, TopEvent } from "./state/event.ts";
import { reduce } from "./state/reduce.ts";
import { queryOf, startState, type TopOptions, type TopState } from "./state/state.ts";
import type { Tty } from "./terminal/tty.ts";

export interface RunTop {
  options: TopOptions;
  head: HeadCalls;
  logs: LogSource;
  palette: Palette;
  draw: DrawOptions;
  tty: Tty;
  keyboard: Keyboard;
  size: () => { columns: number; rows: number };
  onResize: (listener: () => void) => void;
  /** Ends it from outside. */
  signal: AbortSignal;
  settings?: Partial<TopSettings>;
}

export interface TopSettings {
  client: Partial<ClientSettings>;
  /** Between two frames that only the clock has changed. */
  tickMs: number;
  /** An Escape counts as a lone key when nothing follows it for this long. */
  escapeMs: number;
}

const DEFAULTS: TopSettings = { client: {}, tickMs: 1000, escapeMs: 30 };

/** How it ended: by a key or its signal, or since there is no terminal any more. */
export type TopEnd = "over" | "gone";

/** Settles when it is over; the terminal is then as it was. Rejects only for bugs. */
export async function runTop(run: RunTop): Promise<TopEnd> {
  const settings = { ...DEFAULTS, ...run.settings };
  const over = Promise.withResolvers<TopEnd>();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => void run.tty.restore());
  const view = stack.use(startView(run, settings, { onEnd: over.resolve, onError: over.reject }));
  stack.use(
    readKeyboard(run.keyboard, {
      escapeMs: settings.escapeMs,
      onKey: (key) => view.apply({ type: "key", key }),
    }),
  );
  run.keyboard.onEnd(() => view.end("gone"));
  run.onResize(view.resize);
  const onAbort = () => view.end("over");
  run.signal.addEventListener("abort", onAbort, { once: true });
  stack.defer(() => run.signal.removeEventListener("abort", onAbort));
  if (run.signal.aborted) return "over";

  // Not waited for: a terminal that takes nothing must not keep keys from being read.
  run.tty.enter().catch((error: unknown) => {
    over.reject(new Error(`cannot write to the terminal: ${messageOf(error)}`));
  });
  view.show();
  return await over.promise;
}

/** The state, what feeds it and what shows it. */
interface View extends Disposable {
  apply(event: TopEvent): void;
  show(): void;
  resize(): void;
  end(how: TopEnd): void;
}

function startView(
  run: RunTop,
  settings: TopSettings,
  on: { onEnd: (how: TopEnd) => void; onError: (error: unknown) => void },
): View {
  using stack = new DisposableStack();
  const now = () => performance.now();
  let state = startState(run.options, { now: now(), size: run.size() });
  let isOver = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  stack.defer(() => clearTimeout(timer));

  const end = (how: TopEnd) => {
    isOver = true;
    display.stop();
    on.onEnd(how);
  };
  /** A bug must end us, with the terminal as it was, wherever it comes up. */
  const onError = (error: unknown) => {
    isOver = true;
    display.stop();
    on.onError(error);
  };
  const apply = (event: TopEvent) => {
    if (isOver) return;
    try {
      applyNow(event);
    } catch (error) {
      onError(error);
    }
  };

  const { tty, palette, draw } = run;
  const onGone = () => end("gone");
  const display = stack.use(openDisplay({ tty, palette, draw, size: state.size, onGone, onError }));
  const client = stack.use(
    startClient({
      head: run.head,
      query: () => queryOf(state, pageRowsOf(state)),
      onEvent: apply,
      now,
      random: Math.random,
      settings: settings.client,
    }),
  );
  const logs = stack.use(startLogReader(run.logs, apply));

  const applyNow = (event: TopEvent) => {
    const before = state;
    const next = reduce(state, event, now());
    state = next.state;
    for (const effect of next.effects) doEffect(effect, { run, client, apply, end });
    const { droppedInARow } = display;
    if (state.droppedInARow !== droppedInARow)
      state = reduce(state, { type: "shown", droppedInARow }, now()).state;
    if (state !== before) {
      client.syncQuery();
      logs.follow(state.page.kind === "logs" ? state.page.logs : null);
    }
    show();
  };
  const show = () => {
    // The clock goes on by itself where no frame is about to come.
    clearTimeout(timer);
    timer = setTimeout(() => apply({ type: "tick" }), nextTickMs(state, settings.tickMs));
    display.show(state);
  };
  const open = stack.move();
  return {
    apply,
    show,
    end,
    resize() {
      const size = run.size();
      display.resize(size);
      apply({ type: "resize", ...size });
    },
    [Symbol.dispose]: () => open.dispose(),
  };
}

function doEffect(
  effect: Effect,
  on: Pick<View, "apply" | "end"> & { run: RunTop; client: WatchClient },
): void {
  const { head, options, tty } = on.run;
  switch (effect.do) {
    case "quit":
      return on.end("over");
    case "reconnect":
      return on.client.retryNow();
    case "act":
      void doActions({ head, who: options.who }, effect.actions).then((results) =>
        on.apply({ type: "acted", results }),
      );
      return;
    case "copy":
      copy(tty, effect.text);
  }
}

/** A frame that is due about then draws the clock as well: it is given half an interval more. */
function nextTickMs(state: TopState, tickMs: number): number {
  if (state.connection.state !== "open" || state.frame === null) return tickMs;
  const due = state.frameAt + state.intervalMs - state.now;
  return Math.abs(due - tickMs) < tickMs / 3 ? due + tickMs / 2 : tickMs;
}

/** By OSC 52, which the terminal may ignore. */
function copy(tty: Tty, text: string): void {
  const data = Buffer.from(text);
  // The sink sees it when the terminal is gone.
  tty.write(`\u001b]52;c;${data.toString("base64")}\u0007`).catch(() => {});
}
