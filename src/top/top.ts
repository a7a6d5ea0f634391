/** `llmnode top` on a terminal: keys and frames in, screens out, until a person has seen enough. */

import { messageOf } from "../protocol/errors.ts";
import { openCanvas } from "./app.tsx";
import { doActions } from "./client/acts.ts";
import { type ClientSettings, type HeadCalls, startClient } from "./client/client.ts";
import type { DrawOptions } from "./components/drawn.ts";
import { paintFrame, renderFrame } from "./components/frame.ts";
import { createFrameSink } from "./terminal/frame-sink.ts";
import { createKeyReader } from "./terminal/keys.ts";
import { pageRowsOf } from "./state/layout.ts";
import { type LogSource, startLogReader } from "./client/log-reader.ts";
import type { Palette } from "./text/palette.ts";
import type { Effect, TopEvent } from "./state/event.ts";
import { reduce } from "./state/reduce.ts";
import { patchScreen, type Screen } from "./terminal/screen.ts";
import { queryOf, startState, type TopOptions, type TopState } from "./state/state.ts";
import type { Tty } from "./terminal/tty.ts";

export interface Keyboard {
  onBytes(listener: (bytes: Uint8Array) => void): void;
  onEnd(listener: () => void): void;
}

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
  const { tty, palette } = run;
  const settings = { ...DEFAULTS, ...run.settings };
  const now = () => performance.now();
  const over = Promise.withResolvers<TopEnd>();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => void tty.restore());

  let state = startState(run.options, { now: now(), size: run.size() });
  const sink = createFrameSink(tty.write, () => end("gone"));
  let isOver = false;
  let screen: Screen | null = null;
  const canvas = stack.use(
    openCanvas(state.size, (changes) => {
      // Ink's last word as it ends would land on the screen that was there before.
      if (isOver) return;
      screen = patchScreen(screen, changes, state.size);
      sink.show(screen);
    }),
  );
  let scheduled = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const show = () => {
    // The clock goes on by itself where no frame is about to come.
    clearTimeout(timer);
    timer = setTimeout(() => take({ type: "tick" }), nextTickMs(state, settings.tickMs));
    if (scheduled) return;
    scheduled = true;
    // All that came in one go is drawn once.
    queueMicrotask(() => {
      scheduled = false;
      if (isOver) return;
      orFail(() => canvas.draw(paintFrame(renderFrame(state, run.draw), palette)));
    });
  };
  const end = (how: TopEnd) => {
    isOver = true;
    over.resolve(how);
  };
  /** A bug must end us, with the terminal as it was, wherever it comes up. */
  const orFail = (work: () => void) => {
    try {
      work();
    } catch (error) {
      isOver = true;
      over.reject(error);
    }
  };

  const client = stack.use(
    startClient({
      head: run.head,
      query: () => queryOf(state, pageRowsOf(state)),
      onEvent: (event) => take(event),
      now,
      random: Math.random,
      settings: settings.client,
    }),
  );
  const logs = stack.use(startLogReader(run.logs, (event) => take(event)));

  const obey = (effect: Effect) => {
    switch (effect.do) {
      case "quit":
        return end("over");
      case "reconnect":
        return client.retryNow();
      case "act":
        void doActions({ head: run.head, who: state.options.who }, effect.actions).then((results) =>
          take({ type: "acted", results }),
        );
        return;
      case "copy":
        copy(tty, effect.text);
    }
  };
  const take = (event: TopEvent) => {
    if (!isOver) orFail(() => takeNow(event));
  };
  const takeNow = (event: TopEvent) => {
    const next = reduce(state, event, now());
    const before = state;
    state = next.state;
    next.effects.forEach(obey);
    if (state.droppedInARow !== sink.droppedInARow) {
      state = reduce(state, { type: "shown", droppedInARow: sink.droppedInARow }, now()).state;
    }
    if (state !== before) {
      client.asked();
      logs.wanted(state.page.kind === "logs" ? state.page.logs : null);
    }
    show();
  };

  const keys = createKeyReader();
  let escape: ReturnType<typeof setTimeout> | undefined;
  run.keyboard.onBytes((bytes) => {
    clearTimeout(escape);
    for (const key of keys.read(bytes)) take({ type: "key", key });
    if (!keys.isWaiting) return;
    escape = setTimeout(() => {
      for (const key of keys.flush()) take({ type: "key", key });
    }, settings.escapeMs);
  });
  run.keyboard.onEnd(() => end("gone"));
  run.onResize(() => {
    const size = run.size();
    canvas.resize(size);
    sink.redraw();
    take({ type: "resize", ...size });
  });
  stack.defer(() => {
    clearTimeout(timer);
    clearTimeout(escape);
  });
  const onAbort = () => end("over");
  run.signal.addEventListener("abort", onAbort, { once: true });
  stack.defer(() => run.signal.removeEventListener("abort", onAbort));
  if (run.signal.aborted) return "over";

  // Not waited for: a terminal that takes nothing must not keep keys from being read.
  tty.enter().catch((error: unknown) => {
    over.reject(new Error(`the terminal cannot be written to: ${messageOf(error)}`));
  });
  show();
  return await over.promise;
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
