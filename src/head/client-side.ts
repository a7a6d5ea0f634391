/** The head's side towards clients: the proxy and the API, with their log, metrics and traces. */

import { isKnownModel } from "../cluster/state/registry.ts";
import { createBodyBudget } from "../proxy/request/body.ts";
import { createProxy, PROXY_DEFAULTS, type ProxyOptions } from "../proxy/proxy.ts";
import { RESUME_DEFAULTS } from "../proxy/resume/resume.ts";
import { createServiceProxy } from "../proxy/service/service.ts";
import type { HeadAliases } from "./store/aliases.ts";
import type { Access } from "./access/access.ts";
import { type Api, type ApiOptions, createApi } from "./api/api.ts";
import { ownRoutes } from "./api/own-routes.ts";
import { createRouteTable, type HeadRoute } from "./http/route-table.ts";
import type { Events } from "./events/events.ts";
import { createAddressLimit, createAdmit } from "./quota/limits.ts";
import { createLogService, type LogService } from "./api/logs.ts";
import { createMetrics } from "./metrics/metrics.ts";
import type { KeyMetrics } from "./metrics/keys.ts";
import { createOllamaLists } from "./api/ollama-lists.ts";
import type { HeadOptions } from "./options.ts";
import { createResponseOrigins } from "./dispatch/response-origins.ts";
import { createRequestLog } from "./metrics/request-log.ts";
import { createViews, type Views } from "./watch/views.ts";
import { viewRoutes } from "./watch/views-api.ts";
import type { Usage } from "./quota/usage.ts";
import type { WorkerSide, WorkerSideOptions } from "./worker-side.ts";

export interface ClientSideOptions extends Omit<WorkerSideOptions, "membership" | "onTick"> {
  workers: Pick<WorkerSide, "dispatch" | "lanes" | "http" | "sessionAddress">;
  access: Access;
  /** What operators ask for. */
  operatorRoutes: readonly HeadRoute[];
  aliases: HeadAliases;
  events: Events;
  usage: Usage;
  phase: Phase;
}

/** How far the head is on its way out. */
export interface Phase {
  /** What `/health/ready` says. */
  isReady: boolean;
  /** Whether inference requests are refused: the head is about to stop. */
  isDraining: boolean;
}

export interface ClientSide extends AsyncDisposable {
  api: Api;
  /** For the port of operators, if they have one of their own. */
  adminApi: Api;
  logs: LogService;
  views: Views;
  keyMetrics: KeyMetrics;
}

export async function createClientSide(side: ClientSideOptions): Promise<ClientSide> {
  const { options, settings, state, head, now, workers, aliases, phase } = side;
  const { catalog, affinity } = workers.dispatch;
  const { log, version } = options;
  await using stack = new AsyncDisposableStack();
  const metrics = stack.use(
    createMetrics({ version, bun: Bun.version, state, catalog, affinity, now }),
  );
  const observers = await startObservers(options, stack);
  const addressLimit = createAddressLimit(settings.maxRequestsPerAddress);
  const startedAt = now();
  const views = stack.use(
    createViews({
      ...{ state, catalog, aliases, now },
      events: side.events,
      head: () => ({
        ...head,
        uptime_ms: Math.round(now() - startedAt),
        session_port: workers.sessionAddress.port,
      }),
    }),
  );
  const logs = logsOf(side);
  const proxyOptions: ProxyOptions = {
    ...proxySettings(side),
    traced: observers.tracing !== null,
    admit: createAdmit({
      now,
      usedToday: side.usage.today(),
      onRejected: metrics.keys.limitRejected,
      limiter: settings.keyLimits,
    }),
    onLive: views.onLive,
    onRecord: (record) => {
      views.onRecord(record);
      side.notes.record(record);
      addressLimit.give(record.clientAddress);
      // Also when no replica was ready: that is when it matters which model it was.
      if (record.model !== null) record.modelKnown ||= isKnownModel(state, record.model, now());
      metrics.observe(record);
      side.usage.note(record);
      observers.requestLog?.onRecord(record);
      observers.tracing?.onRecord(record);
    },
  };
  const apiOptions: ApiOptions = {
    log,
    idleTimeoutS: settings.idleTimeoutS,
    draining: () => phase.isDraining,
    corsOrigin: options.corsOrigin ?? null,
    access: side.access,
    addressLimit,
    routesAt: createRouteTable([
      ...ownRoutes({
        ...{ state, catalog, aliases, logs, head, now },
        ollamaLists: ollamaListsOf(side),
        metrics: metrics.answer,
        ready: () => phase.isReady,
      }),
      ...viewRoutes(views),
      ...side.operatorRoutes,
    ]),
    proxy: createProxy(proxyOptions),
    services: createServiceProxy(proxyOptions),
  };
  const running = stack.move();
  return {
    api: createApi(apiOptions, options.adminListen ? "clients" : "all"),
    adminApi: createApi(apiOptions, "operators"),
    logs,
    views,
    keyMetrics: metrics.keys,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** What writes finished requests down elsewhere, as far as it was asked for. */
async function startObservers(options: HeadOptions, stack: AsyncDisposableStack) {
  const { requestLog, otlp, version, log } = options;
  return {
    requestLog: requestLog ? stack.use(createRequestLog({ ...requestLog, log })) : null,
    tracing: otlp
      ? stack.use(
          await (await import("./metrics/tracing.ts")).startTracing({ url: otlp, version, log }),
        )
      : null,
  };
}

/** How requests are relayed; what observes them is added by the caller. */
function proxySettings({ options, settings, state, now, workers, aliases }: ClientSideOptions) {
  const { acquire, mayRetry, prefixMatters } = workers.dispatch;
  return {
    ...PROXY_DEFAULTS,
    infoHeaders: options.infoHeaders ?? true,
    logBodies: options.logBodies ?? false,
    resume: { ...RESUME_DEFAULTS, mode: options.resume ?? "auto" },
    ...settings.proxy,
    now,
    acquire,
    mayRetry,
    prefixMatters,
    aliases: aliases.resolve,
    origins: createResponseOrigins({ state, now }),
    body: {
      maxBytes: settings.maxBodyBytes,
      budget: createBodyBudget(settings.maxHeldBytes),
      timeoutMs: settings.bodyTimeoutMs,
    },
  };
}

function logsOf({ settings, state, now, workers }: ClientSideOptions): LogService {
  return createLogService({
    state,
    now,
    upstream: (worker, engineNumber) =>
      workers.lanes.upstream({ workerId: worker.id, workerRun: worker.run, engineNumber }),
    timeoutMs: settings.logTimeoutMs,
    maxReaders: settings.maxLogReaders,
  });
}

function ollamaListsOf({ options, settings, state, aliases, workers }: ClientSideOptions) {
  const { lanes, http } = workers;
  return createOllamaLists({
    state,
    aliases,
    log: options.log,
    upstream: (worker, { route, number }) => {
      if (route.via === "direct") return http.at(route.url);
      const target = { workerId: worker.id, workerRun: worker.run, engineNumber: number };
      return route.via === "lane" ? lanes.upstream(target) : null;
    },
    timeoutMs: settings.listTimeoutMs,
    maxAgeMs: 1000,
  });
}
