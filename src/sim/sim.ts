/** The simulated engine: starts it, opens its port, stops it. */

import { LlmnodeError, messageOf, systemCode } from "../protocol/errors.ts";
import { formatHostPort } from "../util/host-port.ts";
import type { Engine, Generation } from "./generate.ts";
import { banner, load } from "./load.ts";
import { createModelMetrics, type ModelMetrics } from "./metrics.ts";
import type { SimOptions } from "./options.ts";
import { createPacer } from "./pacer.ts";
import { createHandler } from "./routes.ts";
import { errorResponse } from "./vllm.ts";

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
   * cuts what is still open after `stopTimeoutMs`. May be called any number of times.
   */
  stop(): Promise<void>;
}

/**
 * Starts a simulated engine and resolves when it answers. Until then its port is closed: a client
 * is refused, as by vLLM, which binds early but does not listen. A fixed port that is taken is
 * reported at once, before the load.
 *
 * Aborting the signal breaks the load off (rejects with the signal's reason), later it stops the
 * engine. No signal of the process is touched; who wires SIGTERM leaves it alone when
 * `options.ignoreTerm` is set.
 *
 * Throws `port_in_use`, `address_unusable`, and `usage` when no model is named.
 */
export async function startSim(options: SimOptions, signal?: AbortSignal): Promise<Sim> {
  if (options.models.length === 0) throw new LlmnodeError("usage", "no model to serve: --model");
  options.print(banner(options.models));
  if (options.port !== 0) checkPort(options);
  await load(options, signal);

  const metrics = new Map<string, ModelMetrics>(
    options.models.map((model) => [model, createModelMetrics(options.maxModelLen)]),
  );
  const engine = createEngine(options, metrics);
  const createdAt = Math.floor(Date.now() / 1000);
  const handle = createHandler({ engine, metrics, createdAt });
  const server = listen(options, handle);
  const port = server.port ?? options.port;
  const address = formatHostPort({ host: options.host, port });

  let stopped: Promise<void> | null = null;
  const stop = () => (stopped ??= stopServer(server, engine));
  signal?.addEventListener("abort", () => void stop(), { once: true });
  if (signal?.aborted) {
    await stop();
    throw signal.reason;
  }
  options.print(`llmnode sim: Starting vLLM server on http://${address} (simulated)`);
  options.print("Application startup complete.");
  return { url: `http://${address}`, port, stop, [Symbol.asyncDispose]: stop };
}

function createEngine(options: SimOptions, metrics: ReadonlyMap<string, ModelMetrics>): Engine {
  return {
    options,
    pacer: createPacer(),
    running: new Set<Generation>(),
    metricsOf(model) {
      const found = metrics.get(model);
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

function listen(options: SimOptions, handle: (req: Request) => Promise<Response>) {
  try {
    return Bun.serve({
      hostname: options.host,
      port: options.port,
      development: false,
      idleTimeout: IDLE_TIMEOUT_S,
      maxRequestBodySize: MAX_BODY_BYTES,
      fetch(req, server) {
        server.timeout(req, 0);
        return handle(req);
      },
      error: errorResponse,
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

async function stopServer(server: Bun.Server<undefined>, engine: Engine): Promise<void> {
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
