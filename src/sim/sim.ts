/** The simulated engine: starts it, opens its port, stops it. */

import { LlmnodeError } from "../protocol/errors.ts";
import { formatHostPort } from "../util/host-port.ts";
import { cleanLine } from "../util/text.ts";
import { failureToPlay } from "./fail-texts.ts";
import type { Engine, Generation } from "./core/generate.ts";
import type { Dialect, Served } from "./api/dialect.ts";
import { checkPort, listen, listenAndReset, type Port } from "./listen.ts";
import { banner, delay, printLoad, type LoadPace, type LogLine } from "./core/load.ts";
import { createModelMetrics, type ModelMetrics } from "./core/metrics.ts";
import type { Like, SimOptions } from "./core/options.ts";
import { createPacer } from "./core/pacer.ts";
import { createHandler } from "./api/routes.ts";
import { createScheduler } from "./core/scheduler.ts";
import { llamaServer } from "./like/llama-server.ts";
import { ollama } from "./like/ollama.ts";
import { sglang } from "./like/sglang.ts";
import { tgi } from "./like/tgi.ts";
import { vllm } from "./like/vllm.ts";
import { createHang, die, spamLog, startChildren } from "./process-faults.ts";

export { SIM_DEFAULTS, type SimOptions } from "./core/options.ts";

/** Every kind of engine that can be simulated. */
export const DIALECTS: Readonly<Record<Like, Dialect>> = {
  vllm,
  sglang,
  tgi,
  ollama,
  "llama-server": llamaServer,
};

const STOP_TIMEOUT_MS = 1000;

export interface Sim extends AsyncDisposable {
  /** `http://host:port`, with the port that was taken. */
  readonly url: string;
  readonly port: number;
  /**
   * Takes no new requests, ends running answers with the finish reason `abort` as vLLM does, and
   * cuts what is still open after `stopTimeoutMs`; where the engine cuts all connections, it does so
   * at once. May be called any number of times.
   */
  stop(): Promise<void>;
}

/**
 * Starts a simulated engine and resolves when it is ready. Until then the port of most is closed: a
 * client is refused, as by vLLM, which binds early but does not listen. A fixed port that is taken
 * is reported at once, before the load.
 *
 * Aborting the signal breaks the load off (rejects with the signal's reason), later it stops the
 * engine. No signal of the process is touched; who wires SIGTERM leaves it alone when
 * `options.ignoreTerm` is set.
 *
 * Throws `port_in_use`, `address_unusable`, and `usage` for options that cannot be.
 */
export async function startSim(options: SimOptions, signal?: AbortSignal): Promise<Sim> {
  checkOptions(options);
  const dialect = DIALECTS[options.like];
  options.print(banner(namesOf(options)));
  if (options.port !== 0 && options.bindLateMs === 0) checkPort(options);
  startChildren(options);

  // Whatever goes on beside the answers ends with this.
  const ending = new AbortController();
  if (options.spamLog) void spamLog(options.spamLog, options.print, ending.signal);
  try {
    return await load(options, dialect, { signal, ending });
  } catch (error) {
    ending.abort();
    throw error;
  }
}

async function load(
  options: SimOptions,
  dialect: Dialect,
  { signal, ending }: { signal: AbortSignal | undefined; ending: AbortController },
): Promise<Sim> {
  const began = performance.now();
  const { loadTimeMs, print } = options;
  const redraw = options.redraw ?? ((text: string) => void process.stderr.write(text));
  const pace = { began, loadTimeMs, print, redraw: options.redrawProgress ? redraw : null };
  const loading = dialect.loadLines(options.models[0] ?? "", loadTimeMs);
  await playFailure(options, loading, { ...pace, signal });
  const behindPort = loading.findIndex((line) => line.at > dialect.opensAt);
  const split = behindPort < 0 ? loading.length : behindPort;
  const unblock = options.resetWhileLoading ? listenAndReset(options) : () => undefined;
  try {
    await printLoad(loading.slice(0, split), pace, signal);
    await delay(options.boundOnlyMs + options.bindLateMs, signal);
  } finally {
    unblock();
  }

  const engine = createEngine(options, dialect);
  const hang = createHang(options, engine.pacer.stop);
  let isLoaded = false;
  const handle = hang.guard(createHandler(dialect, served(engine), () => isLoaded));
  const opened: Port = listen(options, handle, dialect.failure);
  const { server } = opened;
  engine.onStreamEnd = opened.onStreamEnd;
  let stopped: Promise<void> | null = null;
  const stop = () => {
    ending.abort();
    hang.stop();
    return (stopped ??= stopServer(server, engine, dialect));
  };
  signal?.addEventListener("abort", () => void stop(), { once: true });
  try {
    await printLoad(loading.slice(split), pace, signal);
    signal?.throwIfAborted();
  } catch (error) {
    await stop();
    throw error;
  }
  isLoaded = true;

  const port = server.port ?? options.port;
  const address = formatHostPort({ host: options.host, port });
  const [first = "", ...rest] = dialect.readyLines(address);
  print(`llmnode sim: ${first} (simulated)`);
  for (const line of rest) print(line);
  hang.begin();
  dieAfter(options, ending.signal);
  return { url: `http://${address}`, port, stop, [Symbol.asyncDispose]: stop };
}

/** Plays the end of a start: the load up to there, the engine's words, its exit. */
async function playFailure(
  options: SimOptions,
  loading: readonly LogLine[],
  { signal, ...pace }: LoadPace & { signal: AbortSignal | undefined },
): Promise<void> {
  const failure = failureToPlay(options);
  if (failure === null) return;
  const before = loading.filter(({ at }) => at < failure.at);
  const words = failure.lines.map((text) => ({ at: failure.at, text }));
  await printLoad([...before, ...words], pace, signal);
  die(options, `as one that fails with ${options.fail}`, failure.exitCode);
}

function dieAfter(options: SimOptions, signal: AbortSignal): void {
  const { exitAfterMs } = options;
  if (exitAfterMs === null) return;
  const why = `${exitAfterMs} ms after it was ready`;
  const timer = setTimeout(() => die(options, why, options.exitCode ?? 1), exitAfterMs);
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
}

/** Throws `usage` for options that contradict each other. */
function checkOptions({ models, adapters, like, ...options }: SimOptions): void {
  const refuse = (message: string) => new LlmnodeError("usage", message);
  if (models.length === 0) throw refuse("no model to serve: --model");
  if (adapters.length > 0 && !DIALECTS[like].hasAdapters) {
    throw refuse(`an engine like ${like} lists no LoRA adapters`);
  }
  for (const { name, base } of adapters) {
    if (!models.includes(base)) {
      throw refuse(`the adapter ${cleanLine(name, 80)} needs the model ${cleanLine(base, 80)}`);
    }
  }
  if (options.crashOnText === "")
    throw refuse("every prompt contains the empty text: --fault crash-on-text");
  const { crashAfterTokens, dieMidStreamTokens, errorInStreamTokens } = options;
  for (const tokens of [crashAfterTokens, dieMidStreamTokens, errorInStreamTokens]) {
    if (tokens !== null && tokens < 1)
      throw refuse("a fault strikes after 1 token at the earliest");
  }
  const { maxModelLen, kvTokens } = options;
  if (kvTokens !== null && kvTokens < maxModelLen) {
    throw refuse(
      `--kv-tokens ${kvTokens} does not hold one request of --max-model-len ${maxModelLen}`,
    );
  }
  failureToPlay({ ...options, models, adapters, like });
  if (options.resetWhileLoading && options.port === 0) {
    throw refuse("a port that resets connections while it loads must be named: --port");
  }
}

function createEngine(options: SimOptions, dialect: Dialect): Engine {
  const metrics = new Map<string, ModelMetrics>(
    options.models.map((model) => [
      model,
      createModelMetrics(options.maxModelLen, options.kvTokens),
    ]),
  );
  const bases = new Map(options.adapters.map(({ name, base }) => [name, base]));
  const keepAliveMs = options.keepAliveMs ?? dialect.keepAliveMs;
  const pacer = createPacer();
  return {
    options,
    keepAliveMs: keepAliveMs === 0 ? null : keepAliveMs,
    pacer,
    scheduler: createScheduler(options, pacer),
    running: new Set<Generation>(),
    metrics,
    metricsOf(model) {
      const found = metrics.get(bases.get(model) ?? model);
      if (!found) throw new LlmnodeError("model_not_found", model);
      return found;
    },
    crash(why, lines = []) {
      for (const line of lines) options.print(line);
      die(options, why, options.exitCode ?? 1);
    },
  };
}

function namesOf({ models, adapters }: SimOptions): string[] {
  return [...models, ...adapters.map(({ name }) => name)];
}

function served(engine: Engine): Served {
  const { options } = engine;
  const { find, healthTimeMs } = DIALECTS[options.like];
  const models = namesOf(options);
  return {
    engine,
    options,
    serving: {
      models,
      maxModelLen: options.maxModelLen,
      refuseStreamOptions: options.refuseStreamOptions,
      find: (named) => find(named, models),
    },
    metrics: engine.metrics,
    createdAt: Math.floor(Date.now() / 1000),
    healthTimeMs: options.healthTimeMs ?? healthTimeMs,
  };
}

async function stopServer(
  server: Bun.Server<undefined>,
  engine: Engine,
  { cutsAtStop }: Dialect,
): Promise<void> {
  if (cutsAtStop) {
    const cut = server.stop(true);
    for (const generation of [...engine.running]) generation.abort();
    engine.pacer.stop();
    await cut;
    return;
  }
  const closed = server.stop(false);
  for (const generation of [...engine.running]) generation.shutdown();
  const cut = Promise.withResolvers<void>();
  const timer = setTimeout(cut.resolve, engine.options.stopTimeoutMs ?? STOP_TIMEOUT_MS);
  await Promise.race([closed, cut.promise]);
  clearTimeout(timer);
  for (const generation of [...engine.running]) generation.abort();
  engine.pacer.stop();
  await server.stop(true);
}
