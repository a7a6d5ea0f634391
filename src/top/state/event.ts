/** What can happen to the terminal view, and what must be done about it besides a new state. */

import type { WatchFrame, WatchHello } from "../../protocol/watch-json.ts";
import type { Key } from "../terminal/keys.ts";
import type { Action, TopState } from "./state.ts";

export type TopEvent =
  | { type: "tick" }
  | { type: "resize"; columns: number; rows: number }
  | { type: "key"; key: Key }
  | { type: "connecting"; attempt: number }
  | { type: "hello"; hello: WatchHello }
  | { type: "frame"; frame: WatchFrame }
  | { type: "down"; reason: string; attempt: number; retryAt: number; isAuth: boolean }
  | { type: "shown"; droppedInARow: number }
  | { type: "acted"; results: ActResult[] }
  | LogEvent;

export interface ActResult {
  action: Action;
  ok: boolean;
  text: string;
  /** The models that would have no ready replica any more; the head wants force then. */
  lastOf: string[];
}

export type Effect =
  | { do: "quit" }
  | { do: "reconnect" }
  | { do: "act"; actions: Action[] }
  | { do: "copy"; text: string };

export interface Reduced {
  state: TopState;
  effects: Effect[];
}

/** What came of the engine's log that is being read. */
export type LogEvent =
  | ({ type: "log"; engine: string } & LogPiece)
  | { type: "log_ended"; engine: string; reason: string };

export interface LogPiece {
  lines: { time: string | null; text: string }[];
  /** Lines that were left out before these. */
  skipped: number;
  /** The line behind them that is still being written; null: none is known. */
  live?: string | null;
}
