/** The port for clients: plain, or by TLS with a certificate that may change while requests run. */

import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { errorResponse } from "../../proxy/record/error-answer.ts";
import { formatHostPort, type HostPort } from "../../util/host-port.ts";
import { waitingConnections } from "../../util/tcp.ts";
import type { Log } from "../../util/log.ts";
import type { Api } from "./api.ts";
import { readTlsPair, stampOf, type TlsFiles, type TlsPair } from "./client-tls.ts";

export interface ClientServerOptions {
  listen: HostPort;
  /** What `listen` is called on the command line; `listen` by default. */
  flag?: "listen" | "admin-listen";
  /** Null: plain HTTP. */
  tls: TlsFiles | null;
  api: Api;
  log: Log;
  idleTimeoutS: number;
  /** How often the files are looked at. */
  tlsPollMs: number;
  /** Takes the certificate that clients are shown from now on. */
  onCertificate?: (pem: string) => void;
}

export interface ClientServer extends AsyncDisposable {
  readonly port: number;
  readonly scheme: "http" | "https";
  /** The first name in the certificate; null without TLS, or for addresses only. */
  readonly name: string | null;
  /** Requests that run, those that began under an earlier certificate included. */
  readonly pendingRequests: number;
  /** Reads the files now and says what came of it. Never rejects. */
  reloadTls(): Promise<void>;
}

type Server = ReturnType<typeof Bun.serve>;

/** Certificates that still have requests running; a further change waits for one of them to end. */
const MAX_EARLIER = 8;
/** From here on the end of a certificate is worth a line. */
const EXPIRES_SOON_MS = 7 * 24 * 3_600_000;

/** Throws `port_in_use`, `address_unusable`; `usage` for TLS files that cannot be used. */
export async function startClientServer(options: ClientServerOptions): Promise<ClientServer> {
  const { log, tls } = options;
  if (tls === null) return plainServer(options);
  let stamp = await stampOf(tls);
  let pair = await readTlsPair(tls, Date.now());
  options.onCertificate?.(pair.cert);
  let server = firstServer(options, pair);
  const port = server.port ?? 0;
  const earlier = new Set<Server>();
  let problem: string | null = null;
  const warnOfEnd = createEndWarning(log);
  let polling: Promise<void> | null = null;

  /**
   * Bun cannot change the certificate of a server. A second server on the same port takes every new
   * connection from the moment at which the first one stops listening; that one serves what it has
   * to its end.
   */
  const replaceServer = async (fresh: TlsPair) => {
    const former = server;
    server = serve({ ...options, listen: { ...options.listen, port } }, fresh);
    pair = fresh;
    earlier.add(former);
    await untilQuiet(port);
    void former.stop(false).finally(() => earlier.delete(former));
    options.onCertificate?.(fresh.cert);
  };
  const failed = (reason: string) => {
    const ends = pair.notAfter.toISOString();
    if (reason !== problem) log.warn(`the certificate for clients stays: ${reason}`, { ends });
    problem = reason;
  };
  const load = async (seen: string, isAsked: boolean) => {
    const fresh = await readTlsPair(tls, Date.now());
    if (fresh.cert === pair.cert && fresh.key === pair.key) {
      if (isAsked || problem !== null) log.info("the certificate for clients has not changed");
    } else if (earlier.size >= MAX_EARLIER) {
      return failed(`requests still run under ${earlier.size} earlier certificates`);
    } else {
      await replaceServer(fresh);
      log.info("clients get a new certificate", { ends: fresh.notAfter.toISOString() });
    }
    problem = null;
    stamp = seen;
  };
  const poll = async (isAsked: boolean) => {
    const seen = await stampOf(tls);
    // After a failure it is tried each time: a file may have been written half then.
    if (isAsked || problem !== null || seen !== stamp) {
      await load(seen, isAsked).catch((error: unknown) => failed(messageOf(error)));
    }
    warnOfEnd(pair);
  };
  const pollOnce = async (isAsked: boolean) => {
    while (isAsked && polling !== null) await polling;
    await (polling ??= poll(isAsked).finally(() => {
      polling = null;
    }));
  };

  await pollOnce(false);
  const timer = setInterval(() => void pollOnce(false), options.tlsPollMs);
  return {
    port,
    scheme: "https",
    get name() {
      return pair.name;
    },
    get pendingRequests() {
      return [server, ...earlier].reduce((sum, one) => sum + one.pendingRequests, 0);
    },
    reloadTls: () => pollOnce(true),
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await polling;
      await Promise.all([server, ...earlier].map((one) => one.stop(true)));
    },
  };
}

/** One line for each certificate that is about to end. */
function createEndWarning(log: Log): (pair: TlsPair) => void {
  let warnedOf: TlsPair | null = null;
  return (pair) => {
    if (warnedOf === pair || pair.notAfter.getTime() - Date.now() > EXPIRES_SOON_MS) return;
    warnedOf = pair;
    log.warn("the certificate for clients expires soon", { ends: pair.notAfter.toISOString() });
  };
}

/** How often the queue of connections that wait to be accepted is polled. */
const QUIET_POLLS = 200;

/**
 * A listener that closes resets the connections that wait in its queue. Returns in a moment without
 * any, or after a while of steady rush: then the few of that moment are lost.
 */
async function untilQuiet(port: number): Promise<void> {
  for (let i = 0; i < QUIET_POLLS && (waitingConnections(port) ?? 0) > 0; i += 1) {
    await new Promise(setImmediate);
  }
}

function plainServer(options: ClientServerOptions): ClientServer {
  const server = serve(options, null);
  return {
    port: server.port ?? 0,
    scheme: "http",
    name: null,
    get pendingRequests() {
      return server.pendingRequests;
    },
    reloadTls: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

/** What may be shared later must not be shared at the start: with another head, by mistake. */
function firstServer(options: ClientServerOptions, pair: TlsPair): Server {
  const { host, port } = options.listen;
  if (port !== 0) {
    try {
      Bun.listen({ hostname: host, port, exclusive: true, socket: { data() {} } }).stop(true);
    } catch (error) {
      throw cannotListen(options, error);
    }
  }
  return serve(options, pair);
}

function serve(options: ClientServerOptions, pair: TlsPair | null): Server {
  const { listen, log, api } = options;
  try {
    return Bun.serve({
      hostname: listen.host,
      port: listen.port,
      development: false,
      // Bun shares the port with another process otherwise, and says nothing.
      reusePort: pair !== null,
      ...(pair === null ? {} : { tls: { cert: pair.cert, key: pair.key } }),
      // Bounds slow senders; inference lifts it for itself.
      idleTimeout: options.idleTimeoutS,
      // Our own limit answers in OpenAI's form; Bun's has an empty body.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      fetch: (request, server) => api(request, server),
      error(error) {
        log.error("internal error", { error: messageOf(error), stack: error.stack });
        return errorResponse(new LlmnodeError("internal", "The head failed on this request."));
      },
    });
  } catch (error) {
    throw cannotListen(options, error);
  }
}

function cannotListen(
  { listen, flag = "listen" }: ClientServerOptions,
  error: unknown,
): LlmnodeError {
  const taken = systemCode(error) === "EADDRINUSE";
  return new LlmnodeError(
    taken ? "port_in_use" : "address_unusable",
    `cannot listen for clients on ${formatHostPort(listen)}: ${taken ? "the port is taken" : messageOf(error)}`,
    { hints: [`choose another address: llmnode head --${flag} HOST:PORT`], cause: error },
  );
}
