/** What a simulated engine is told at its start, and the defaults of all that. */

export interface SimOptions {
  /** Names that clients put in `"model"`; all of them answer, the first one where none is named. */
  models: string[];
  host: string;
  /** 0 takes any free port; the one taken is in the log and in `Sim.port`. */
  port: number;
  /** Time from a request's last byte to its first token. */
  ttftMs: number;
  /** Time from one token to the next. 0: as fast as the client reads. */
  itlMs: number;
  /** Time from the start to the port being opened, filled with the log lines of a model load. */
  loadTimeMs: number;
  /** The whole process dies (exit code 1) when one request has produced so many output tokens. */
  crashAfterTokens: number | null;
  /** Each stream's connection is reset after so many output tokens; the engine lives on. */
  dieMidStreamTokens: number | null;
  /** For whoever wires the signals: SIGTERM is to be ignored. `startSim` itself wires none. */
  ignoreTerm: boolean;
  /** Prompt and output tokens of one request, together, at most. */
  maxModelLen: number;
  /** Streams end without `data: [DONE]`. */
  noDone: boolean;
  /** The share (0 to 1) of chat, completion and embedding requests that are answered with 500. */
  errorRate: number;
  /** After so many output tokens a stream carries an error event and ends; other answers are 500. */
  errorInStreamTokens: number | null;
  /**
   * Each answer falls silent for so long after its first token, then goes on: no byte is sent and
   * the connection stays open. The silence before the first token is `ttftMs`.
   */
  silenceMs: number;
  /** Takes the engine's log, one line without newline at a time. */
  print: (line: string) => void;
  /** Decides about `errorRate`; returns 0 to 1. Default: `Math.random`. */
  random?: () => number;
  /** How the process dies for `crashAfterTokens`. Default: `process.exit`. */
  exit?: (code: number) => never;
  /** How long `stop()` waits for connections to end before it cuts them. Default: 1000. */
  stopTimeoutMs?: number;
}

/** The defaults that `llmnode sim` shows in its help; `models` and `print` have none. */
export const SIM_DEFAULTS = {
  host: "127.0.0.1",
  port: 8000,
  ttftMs: 20,
  itlMs: 10,
  loadTimeMs: 0,
  crashAfterTokens: null,
  dieMidStreamTokens: null,
  ignoreTerm: false,
  maxModelLen: 32_768,
  noDone: false,
  errorRate: 0,
  errorInStreamTokens: null,
  silenceMs: 0,
} satisfies Omit<SimOptions, "models" | "print">;
