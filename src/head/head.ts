/** The head: opens its ports and wires sessions, dispatch, proxy and API together. */

import { isKnownModel } from "../cluster/registry.ts";
import { createCluster } from "../cluster/state.ts";
import { messageOf } from "../protocol/errors.ts";
import { writeFrontNote } from "../protocol/front-note.ts";
import { startSessionServer } from "../protocol/session-server.ts";
import { createBodyBudget } from "../proxy/body.ts";
import { createProxy, PROXY_DEFAULTS, type ProxyOptions } from "../proxy/proxy.ts";
import { createServiceProxy } from "../proxy/service.ts";
import { directUpstream } from "../proxy/upstream.ts";
import { readHostFacts } from "../telemetry/host.ts";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import { createAddressLimit } from "./address-limit.ts";
import { createAdmin } from "./admin.ts";
import { createApi } from "./api.ts";
import { startClientServer } from "./client-server.ts";
import { startDispatch } from "./dispatch.ts";
import { openMembership } from "./membership.ts";
import { createMetrics } from "./metrics.ts";
import { startLaneServer } from "./lane-server.ts";
import { createLaneSwitch, LANE_SETTINGS } from "./lane-switch.ts";
import { createLogs } from "./logs.ts";
import { createOllamaLists } from "./ollama-lists.ts";
import { HEAD_DEFAULTS, type HeadOptions } from "./options.ts";
import { namingOwner } from "./port-owner.ts";
import { createRefusalLog, mismatchReason } from "./refusal-log.ts";
import { createRequestLog } from "./request-log.ts";
import { createSessions } from "./session.ts";
import { blockList } from "./ways.ts";

export interface Head extends AsyncDisposable {
  /** Names this life of the head. */
  readonly id: string;
  /** For clients on this machine. */
  readonly url: string;
  /** The name in the certificate for clients, if it has one: what they should call the head. */
  readonly name: string | null;
  readonly sessionAddress: HostPort;
  /** The first join token; null when it was revoked. */
  joinToken(): string | null;
  /** Reads the certificate and the key for clients anew, where there are any. Never rejects. */
  reloadTls(): Promise<void>;
  /** Lets running requests end, within `stopTimeoutMs` or until `force`; engines run on. */
  stop(options?: { force?: AbortSignal }): Promise<void>;
}

/** Throws `port_in_use`, `address_unusable`, `data_dir_unusable`; `usage` also for TLS files. */
export async function startHead(options: HeadOptions): Promise<Head> {
  const settings = { ...HEAD_DEFAULTS, ...options.settings };
  const { log } = options;
  const allowAdvertise = options.allowAdvertise ?? [];
  blockList(allowAdvertise);
  await using stack = new AsyncDisposableStack();
  const membership = stack.use(await openMembership(options));
  const { timeOrigin } = performance;
  const now = () => timeOrigin + performance.now();
  const head = { id: crypto.randomUUID(), version: options.version };
  const state = createCluster(now(), settings.cluster);
  const place = readHostFacts();
  const lanes = stack.use(createLaneSwitch({ state, now, place, settings: settings.lanes }));
  const dispatch = stack.use(
    startDispatch({
      state,
      lanes,
      now,
      log,
      random: Math.random,
      way: { head: place, allowAdvertise, probeTimeoutMs: settings.probeTimeoutMs },
      reprobeMs: settings.reprobeMs,
    }),
  );
  const laneListen = options.laneListen ?? { host: options.sessionListen.host, port: 0 };
  const laneServer = stack.use(
    await namingOwner(laneListen.port, () =>
      startLaneServer({
        listen: laneListen,
        tls: membership.tls,
        worker: lanes.worker,
        log,
        deadAfterMs: settings.lanes.deadAfterMs ?? LANE_SETTINGS.deadAfterMs,
      }),
    ),
  );
  const onRefused = createRefusalLog({ log, now });
  const sessions = createSessions({
    state,
    lanes,
    lanePort: () => laneServer.address.port,
    head,
    now,
    log,
    gate: membership.gate,
    onRefused,
    helloTimeoutMs: settings.helloTimeoutMs,
    onTransition: dispatch.changed,
    onRouteStale: dispatch.findWay,
  });
  const sessionServer = stack.use(
    await namingOwner(options.sessionListen.port, () =>
      startSessionServer({
        listen: options.sessionListen,
        tls: membership.tls,
        onSession: sessions.accept,
        onMismatch(address, spoke) {
          const reason = mismatchReason(spoke);
          onRefused({ address, code: "tls_mismatch", reason });
        },
      }),
    ),
  );
  const metrics = stack.use(
    createMetrics({
      version: options.version,
      bun: Bun.version,
      state,
      catalog: dispatch.catalog,
      now,
    }),
  );
  const requestLog = options.requestLog
    ? stack.use(createRequestLog({ ...options.requestLog, log }))
    : null;
  const tracing = options.otlp
    ? stack.use(
        await (
          await import("./tracing.ts")
        ).startTracing({ url: options.otlp, version: options.version, log }),
      )
    : null;
  const addressLimit = createAddressLimit(settings.maxRequestsPerAddress);
  const logs = createLogs({
    state,
    now,
    upstream: (worker, engineNumber) =>
      lanes.upstream({ workerId: worker.id, workerRun: worker.run, engineNumber }),
    timeoutMs: settings.logTimeoutMs,
    maxReaders: settings.maxLogReaders,
  });
  let leaving = false;
  let draining = false;
  const proxyOptions: ProxyOptions = {
    ...PROXY_DEFAULTS,
    infoHeaders: options.infoHeaders ?? true,
    logBodies: options.logBodies ?? false,
    ...settings.proxy,
    now,
    acquire: dispatch.acquire,
    body: {
      maxBytes: settings.maxBodyBytes,
      budget: createBodyBudget(settings.maxHeldBytes),
      timeoutMs: settings.bodyTimeoutMs,
    },
    traced: tracing !== null,
    onRecord: (record) => {
      addressLimit.give(record.clientAddress);
      // Also when no replica was ready: that is when it matters which model it was.
      if (record.model !== null) record.modelKnown ||= isKnownModel(state, record.model, now());
      metrics.observe(record);
      requestLog?.onRecord(record);
      tracing?.onRecord(record);
    },
  };
  const api = createApi({
    state,
    head,
    now,
    log,
    catalog: dispatch.catalog,
    idleTimeoutS: settings.idleTimeoutS,
    ready: () => !leaving,
    draining: () => draining,
    corsOrigin: options.corsOrigin ?? null,
    admin: createAdmin({ ...membership, state, sessions, now }),
    logs,
    metricsOpen: options.metricsOpen ?? false,
    addressLimit,
    metrics: async () =>
      new Response(await metrics.text(), { headers: { "content-type": metrics.contentType } }),
    ollamaLists: createOllamaLists({
      state,
      log,
      upstream: (worker, { route, number }) => {
        if (route.via === "direct") return directUpstream(route.url);
        const target = { workerId: worker.id, workerRun: worker.run, engineNumber: number };
        return route.via === "lane" ? lanes.upstream(target) : null;
      },
      timeoutMs: settings.listTimeoutMs,
      maxAgeMs: 1000,
    }),
    proxy: createProxy(proxyOptions),
    services: createServiceProxy(proxyOptions),
  });
  let certificate: string | null = null;
  let url: string | null = null;
  const note = () => {
    if (url === null) return;
    try {
      const { dataDir } = options;
      writeFrontNote(dataDir, certificate === null ? null : { url, certificate });
    } catch (error) {
      log.warn("commands on this machine may need --ca", { error: messageOf(error) });
    }
  };
  const server = stack.use(
    await namingOwner(options.listen.port, () =>
      startClientServer({
        listen: options.listen,
        tls: options.tls ?? null,
        api,
        log,
        idleTimeoutS: settings.idleTimeoutS,
        tlsPollMs: settings.tlsPollMs,
        onCertificate(pem) {
          certificate = pem;
          note();
        },
      }),
    ),
  );
  url = `${server.scheme}://${formatHostPort({ host: nearHost(options.listen.host), port: server.port })}`;
  note();
  stack.defer(() => writeFrontNote(options.dataDir, null));
  membership.noteAddress(url);
  const running = stack.move();
  let stopped: Promise<void> | null = null;

  const stop = async (force?: AbortSignal) => {
    leaving = true;
    // A balancer in front is to look elsewhere before requests are refused here.
    await until(() => false, { timeoutMs: settings.shutdownDelayMs, force });
    draining = true;
    // They may go on for ever, and can be read on later.
    logs.endAll();
    const busy = () => server.pendingRequests > 0;
    await until(() => !busy(), { timeoutMs: settings.stopTimeoutMs, force });
    if (busy()) {
      dispatch.endAll();
      await until(() => !busy(), { timeoutMs: 1000, force: undefined });
    }
    await running.disposeAsync();
  };
  return {
    id: head.id,
    url,
    name: server.name,
    sessionAddress: sessionServer.address,
    joinToken: membership.joinTokens.first,
    reloadTls: server.reloadTls,
    stop: ({ force } = {}) => (stopped ??= stop(force)),
    async [Symbol.asyncDispose]() {
      await (stopped ??= stop(AbortSignal.abort()));
    },
  };
}

/** Where a process on this machine reaches what listens on `host`. */
function nearHost(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  return host === "::" ? "::1" : host;
}

/** Waits for a condition that nothing announces; polls, since it is needed at the end only. */
async function until(
  condition: () => boolean,
  limit: { timeoutMs: number; force: AbortSignal | undefined },
): Promise<void> {
  const deadline = performance.now() + limit.timeoutMs;
  while (!condition() && performance.now() < deadline && !limit.force?.aborted) {
    await Bun.sleep(20);
  }
}
