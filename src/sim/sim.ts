/** The simulated engine: starts it, opens its port, stops it. */

import { LlmnodeError, messageOf, systemCode } from "../protocol/errors.ts";
import { formatHostPort } from "../util/host-port.ts";
import { cleanLine } from "../util/text.ts";
import type { Engine, Generation } from "./generate.ts";
import { DIALECTS } from "./like/all.ts";
import type { Dialect, Served } from "./like/dialect.ts";
import { banner, printLoad } from "./load.ts";
import { createModelMetrics, type ModelMetrics } from "./metrics.ts";
import type { SimOptions } from "./options.ts";
import { createPacer } from "./pacer.ts";
import { createHandler } from "./routes.ts";

export { SIM_DEFAULTS, type SimOptions } from "./options.ts";

/** Large enough for images in base64; vLLM has no limit of its own. */
const MAX_BODY_BYTES = 256 * 1024 * 1024;

/** For connections that send no request; answers may be silent for as long as they like. */
const IDLE_TIMEOUT_S = 60;

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
  const names = [...options.models, ...options.adapters.map((adapter) => adapter.name)];
  options.print(banner(names));
  if (options.port !== 0) checkPort(options);

  const began = performance.now();
  const loading = dialect.loadLines(options.models[0] ?? "", options.loadTimeMs);
  const pace = { began, loadTimeMs: options.loadTimeMs, print: options.print };
  const behindPort = loading.findIndex((line) => line.at > dialect.opensAt);
  const split = behindPort < 0 ? loading.length : behindPort;
  await printLoad(loading.slice(0, split), pace, signal);

  const engine = createEngine(options, dialect);
  let isLoaded = false;
  const server = listen(
    options,
    createHandler(dialect, served(engine), () => isLoaded),
  );
  let stopped: Promise<void> | null = null;
  const stop = () => (stopped ??= stopServer(server, engine, dialect));
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
  options.print(`llmnode sim: ${first} (simulated)`);
  for (const line of rest) options.print(line);
  return { url: `http://${address}`, port, stop, [Symbol.asyncDispose]: stop };
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
  const { crashAfterTokens, dieMidStreamTokens, errorInStreamTokens } = options;
  for (const tokens of [crashAfterTokens, dieMidStreamTokens, errorInStreamTokens]) {
    if (tokens !== null && tokens < 1)
      throw refuse("a fault strikes after 1 token at the earliest");
  }
}

function createEngine(options: SimOptions, dialect: Dialect): Engine {
  const metrics = new Map<string, ModelMetrics>(
    options.models.map((model) => [model, createModelMetrics(options.maxModelLen)]),
  );
  const bases = new Map(options.adapters.map(({ name, base }) => [name, base]));
  const keepAliveMs = options.keepAliveMs ?? dialect.keepAliveMs;
  return {
    options,
    keepAliveMs: keepAliveMs === 0 ? null : keepAliveMs,
    pacer: createPacer(),
    running: new Set<Generation>(),
    metrics,
    metricsOf(model) {
      const found = metrics.get(bases.get(model) ?? model);
      if (!found) throw new LlmnodeError("model_not_found", model);
      return found;
    },
    crash() {
      options.print(
        `llmnode sim: dying now, after ${options.crashAfterTokens} tokens of one request (simulated)`,
      );
      (options.exit ?? process.exit)(1);
    },
  };
}

function served(engine: Engine): Served {
  const { options } = engine;
  const { find, healthTimeMs } = DIALECTS[options.like];
  const models = [...options.models, ...options.adapters.map((adapter) => adapter.name)];
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

function listen(options: SimOptions, handle: (req: Request) => Promise<Response>) {
  try {
    return Bun.serve({
      hostname: options.host,
      port: options.port,
      development: false,
      // Bun shares the port with another process otherwise, and says nothing.
      reusePort: false,
      idleTimeout: IDLE_TIMEOUT_S,
      maxRequestBodySize: MAX_BODY_BYTES,
      fetch(req, server) {
        server.timeout(req, 0);
        return handle(req);
      },
      error: DIALECTS[options.like].failure,
    });
  } catch (error) {
    throw listenError(error, options);
  }
}

/** Binds the port for a moment, so that a start that cannot succeed fails before the load. */
function checkPort(options: SimOptions): void {
  try {
    const { host: hostname, port } = options;
    Bun.listen({ hostname, port, socket: { data: () => undefined } }).stop(true);
  } catch (error) {
    throw listenError(error, options);
  }
}

function listenError(error: unknown, { host, port }: SimOptions): LlmnodeError {
  const address = formatHostPort({ host, port });
  return systemCode(error) === "EADDRINUSE"
    ? new LlmnodeError("port_in_use", `${address} is already in use`, { cause: error })
    : new LlmnodeError("address_unusable", `cannot listen on ${address}: ${messageOf(error)}`, {
        cause: error,
      });
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
