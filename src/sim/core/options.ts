/** The options of a simulated engine, and their defaults. */

/** The engines whose manners can be taken on. */
export const LIKES = ["vllm", "sglang", "tgi", "ollama", "llama-server"] as const;
export type Like = (typeof LIKES)[number];

/** Where each of them listens by default. */
export const LIKE_PORTS: Readonly<Record<Like, number>> = {
  vllm: 8000,
  sglang: 30_000,
  tgi: 3000,
  ollama: 11_434,
  "llama-server": 8080,
};

/** Ends of a start that can be played: the engine's own words for one, then its exit. */
export const FAILS = [
  "gpu_oom",
  "gpu_busy",
  "kv_too_small",
  "graph_oom",
  "gated",
  "no_model",
  "bad_weights",
  "offline",
  "arch_unsupported",
  "port_in_use",
  "no_gpu",
  "shm",
  "disk_full",
  "bad_flag",
  "missing_program",
] as const;
export type Fail = (typeof FAILS)[number];

/** So many bytes of log, in all or in each second. */
export interface Spam {
  bytes: number;
  perSecond: boolean;
}

export interface LoraAdapter {
  /** The name that clients put in `"model"`. */
  name: string;
  /** One of the models. */
  base: string;
}

/** What `llmnode sim` does by default. */
export const SIM_DEFAULTS = {
  /** The engine whose routes, shapes, errors and metrics it has. */
  like: "vllm" as Like,
  /** Adapters that are listed under their own names; vLLM and SGLang have such. */
  adapters: [] as LoraAdapter[],
  host: "127.0.0.1",
  /** 0 takes any free port; the one taken is in the log and in `Sim.port`. */
  port: LIKE_PORTS.vllm,
  /** Time from a request's last byte to its first token. */
  ttftMs: 20,
  /** Time from one token to the next. 0: as fast as the client reads. */
  itlMs: 10,
  /** What each other running request adds to that. */
  itlPerSeqMs: 0,
  /** Prompt tokens that are computed in a second, for all requests together; null: in no time. */
  prefillRate: null as number | null,
  /** Sequences that run at once; more wait their turn. Null: no limit. */
  maxNumSeqs: null as number | null,
  /**
   * Tokens that the cache holds, in blocks of 16: prompts are found again by their beginnings, and
   * requests wait that do not fit. Null: no limit, and no prompt is found again.
   */
  kvTokens: null as number | null,
  /**
   * How long a model takes to load, filled with the log lines of the engine. Most load before they
   * open the port; llama-server answers 503 meanwhile, SGLang at the end of it, and Ollama loads
   * each model when it is first asked for it.
   */
  loadTimeMs: 0,
  /**
   * The exit code of every death below; 137: by SIGKILL of itself, as SGLang ends. Null: 1, or for
   * `fail` as the engine has it.
   */
  exitCode: null as number | null,
  /** The process dies this long after it was ready. */
  exitAfterMs: null as number | null,
  /** The start ends with what the engine prints in this case. */
  fail: null as Fail | null,
  /** This long after it was ready nothing is answered any more, and nothing goes on. */
  hangAfterMs: null as number | null,
  /** The same, once so many requests of the model were taken. */
  hangAfterRequests: null as number | null,
  /** What is only looked up (health, models, metrics) is answered even while it hangs. */
  healthLies: false,
  /** Log lines without sense, from the start on. */
  spamLog: null as Spam | null,
  /** The port is not touched for this long after it would be opened: one that is taken shows late. */
  bindLateMs: 0,
  /** The port is found free at the start, but nothing listens on it for this long after the load. */
  boundOnlyMs: 0,
  /** Until it would open its port, connections are taken and reset, as by docker's proxy. */
  resetWhileLoading: false,
  /** A child in its process group that outlives it, for an hour at most. */
  forkChild: false,
  /** The same in a session of its own. */
  setsidChild: false,
  /** Percentages of the load go to `redraw`, each over the last one, as progress bars do. */
  redrawProgress: false,
  /** Connections without a request are closed after about so many seconds (1 to 255). */
  idleCloseS: null as number | null,
  /** The whole process dies when one request has produced so many output tokens. */
  crashAfterTokens: null as number | null,
  /**
   * The whole process dies, as of a CUDA fault, when the prefill of a prompt with this text is
   * done: before the request's first byte.
   */
  crashOnText: null as string | null,
  /** Each stream's connection is reset after so many output tokens; the engine lives on. */
  dieMidStreamTokens: null as number | null,
  /** For the code that wires the signals: SIGTERM is to be ignored. `startSim` itself wires none. */
  ignoreTerm: false,
  /** The same: SIGTERM is to end it by SIGKILL of itself, as SGLang does. */
  killOnTerm: false,
  /** Prompt and output tokens of one request, together, at most. */
  maxModelLen: 32_768,
  /** Streams end without their end mark: `data: [DONE]`, `message_stop`, Ollama's last object. */
  noDone: false,
  /** Requests with `stream_options` are answered with 400, as by engines that do not know it. */
  refuseStreamOptions: false,
  /** The share (0 to 1) of inference requests that are answered with 500. */
  errorRate: 0,
  /** After so many output tokens a stream carries an error event and ends; other answers are 500. */
  errorInStreamTokens: null as number | null,
  /**
   * Each answer falls silent for this long after its first token, then goes on: no byte is sent
   * (but for `keepAliveMs`) and the connection stays open. The silence before the first token is
   * `ttftMs`.
   */
  silenceMs: 0,
  /**
   * Silence after which a stream of events carries a comment; 0: never; null: as the engine has it
   * (llama-server 30 s, TGI 15 s, the others never).
   */
  keepAliveMs: null as number | null,
  /** How long `/health` takes to answer; null: as the engine has it (SGLang 1 s, the others 0). */
  healthTimeMs: null as number | null,
};

type Defaults = typeof SIM_DEFAULTS;

export interface SimOptions extends Defaults {
  /** Names that clients put in `"model"`; all of them answer, the first one where none is named. */
  models: string[];
  /** Takes the engine's log, one line without newline at a time. */
  print: (line: string) => void;
  /** Takes pieces of progress bars, with their `\r`. Default: stderr. */
  redraw?: (text: string) => void;
  /** Decides about `errorRate`; returns 0 to 1. Default: `Math.random`. */
  random?: () => number;
  /** How the process dies. Default: `process.exit`, and SIGKILL for 137. */
  exit?: (code: number) => never;
  /** How long `stop()` waits for connections to end before it cuts them. Default: 1000. */
  stopTimeoutMs?: number;
}
