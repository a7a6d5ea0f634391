/** `llmnode top` on a terminal: keys and frames in, screens out, until a person has seen enough. */

import { messageOf } from "../protocol/errors.ts";
import { openCanvas } from "./app.tsx";
import { doActions } from "./acts.ts";
import { type ClientSettings, type HeadCalls, startClient } from "./client.ts";
import type { DrawOptions } from "./frame/drawn.ts";
import { paintFrame, renderFrame } from "./frame/frame.ts";
import { createFrameSink } from "./frame-sink.ts";
import { createKeyReader } from "./keys.ts";
import { pageRowsOf } from "./layout.ts";
import { type LogSource, startLogReader } from "./log-reader.ts";
import type { Palette } from "./palette.ts";
import { type Effect, reduce, type TopEvent } from "./reduce.ts";
import { parseScreen } from "./screen.ts";
import { queryOf, startState, type TopOptions } from "./state.ts";
import type { Tty } from "./tty.ts";

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
  /** After a lone Escape so long nothing must come for it to be one. */
  escapeMs: number;
}

const DEFAULTS: TopSettings = { client: {}, tickMs: 1000, escapeMs: 30 };
/** Most terminals take no more in an OSC 52. */
const MAX_COPY_BYTES = 74_000;

/** Settles when it is over; the terminal is then as it was. Rejects only for bugs. */
export async function runTop(run: RunTop): Promise<void> {
  const { tty, palette } = run;
  const settings = { ...DEFAULTS, ...run.settings };
  const now = () => performance.now();
  const over = Promise.withResolvers<void>();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => void tty.restore());

  let state = startState(run.options, { now: now(), size: run.size() });
  const sink = createFrameSink(tty.write, () => over.resolve());
  let isOver = false;
  const canvas = stack.use(
    openCanvas(state.size, (frame) => {
      // Ink's last word as it ends would land on the screen that was there before.
      if (!isOver) sink.show(parseScreen(frame, state.size));
    }),
  );
  let scheduled = false;
  const show = () => {
    if (scheduled) return;
    scheduled = true;
    // All that came in one go is drawn once.
    queueMicrotask(() => {
      scheduled = false;
      if (!isOver) canvas.draw(paintFrame(renderFrame(state, run.draw), palette));
    });
  };
  const end = () => {
    isOver = true;
    over.resolve();
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
        return end();
      case "reconnect":
        return client.retryNow();
      case "act":
        void doActions(run.head, effect.actions).then((results) =>
          take({ type: "acted", results }),
        );
        return;
      case "copy":
        copy(tty, effect.text);
    }
  };
  const take = (event: TopEvent) => {
    if (isOver) return;
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
  run.keyboard.onEnd(end);
  run.onResize(() => {
    const size = run.size();
    canvas.resize(size);
    sink.redraw();
    take({ type: "resize", ...size });
  });
  const timer = setInterval(() => take({ type: "tick" }), settings.tickMs);
  stack.defer(() => {
    clearInterval(timer);
    clearTimeout(escape);
  });
  run.signal.addEventListener("abort", end, { once: true });
  if (run.signal.aborted) return;

  // Not waited for: a terminal that takes nothing must not keep keys from being read.
  tty.enter().catch((error: unknown) => {
    over.reject(new Error(`the terminal cannot be written to: ${messageOf(error)}`));
  });
  show();
  await over.promise;
}

/** By OSC 52, which the terminal may ignore. */
function copy(tty: Tty, text: string): void {
  const data = Buffer.from(text);
  if (data.length > MAX_COPY_BYTES) return;
  // The sink sees it when the terminal is gone.
  tty.write(`\u001b]52;c;${data.toString("base64")}\u0007`).catch(() => {});
}
