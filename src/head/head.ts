/** The head: opens its ports and wires its sides towards workers and clients together. */

import path from "node:path";
import { isKnownModel } from "../cluster/state/registry.ts";
import { createCluster } from "../cluster/state/state.ts";
import { ownerText } from "../protocol/admin-token.ts";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { writeFrontNote } from "../protocol/front-note.ts";
import { blockList } from "../util/address-ranges.ts";
import { formatHostPort, type HostPort } from "../util/host-port.ts";
import { operatorRoutes } from "./admin/routes.ts";
import { createAliases } from "./store/aliases.ts";
import { createEventNotes } from "./events/notes.ts";
import { createEvents } from "./events/events.ts";
import { createClientSide } from "./client-side.ts";
import {
  type ClientServer,
  type ClientServerOptions,
  startClientServer,
} from "./api/client-server.ts";
import { loadDrains } from "./drains/store.ts";
import { startDrains } from "./drains/drains.ts";
import { openGuard } from "./access/guard.ts";
import { keepKnownModels, loadKnownModels } from "./store/known-models.ts";
import type { AuthFailure } from "./metrics/keys.ts";
import { openMembership } from "./sessions/membership.ts";
import { HEAD_DEFAULTS, type HeadOptions } from "./options.ts";
import { namingOwner } from "./port-owner.ts";
import { startUsage } from "./quota/usage.ts";
import { startWorkerSide } from "./worker-side.ts";

export interface Head extends AsyncDisposable {
  /** Names this life of the head. */
  readonly id: string;
  /** For clients on this machine. */
  readonly url: string;
  /** Where operators ask, if they have a port of their own; for this machine too. */
  readonly adminUrl: string | null;
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
  // Before anything is opened: it may be what the command line got wrong.
  checkRanges([...(options.allowAdvertise ?? []), ...(options.trustedProxies ?? [])]);
  await using stack = new AsyncDisposableStack();
  const membership = stack.use(await openMembership(options));
  const { timeOrigin } = performance;
  const now = () => timeOrigin + performance.now();
  const head = { id: crypto.randomUUID(), version: options.version };
  const state = createCluster(now(), settings.cluster);
  const { store } = membership;
  const onFailure = (reason: AuthFailure) => clients.keyMetrics.authFailed(reason);
  const guard = stack.use(openGuard({ ...options, store, onFailure }));
  const usage = stack.use(
    startUsage({ dir: path.join(options.dataDir, "head"), log, now, settings: settings.usage }),
  );
  // Before the first worker is let in.
  loadDrains(state, { store, log });
  loadKnownModels(state, { store, now: now() });
  stack.use(
    keepKnownModels({
      state,
      store,
      now,
      everyMs: settings.knownModelsMs,
      refreshMs: settings.knownModelsAgeMs,
    }),
  );
  const events = createEvents({ now });
  const notes = stack.use(createEventNotes(events));
  const workers = stack.use(
    await startWorkerSide({ options, settings, membership, state, head, now, notes }),
  );
  const { dispatch, sessions } = workers;
  const aliases = stack.use(
    createAliases({
      store: membership.store,
      catalog: dispatch.catalog,
      isKnown: (model) => isKnownModel(state, model, now()),
      random: Math.random,
      log,
    }),
  );
  const drains = stack.use(
    startDrains({
      state,
      catalog: dispatch.catalog,
      store,
      now,
      log,
      tell: sessions.send,
      onTransition: dispatch.onTransition,
      repeatMs: settings.drainRepeatMs,
    }),
  );
  let signal = false;
  let draining = false;
  const clients = stack.use(
    await createClientSide({
      options,
      settings,
      state,
      head,
      now,
      workers,
      aliases,
      events,
      notes,
      access: guard.access,
      usage,
      operatorRoutes: operatorRoutes({
        state,
        guard,
        membership,
        sessions,
        aliases,
        drains,
        usage,
        backup: () => ({
          store,
          dataDir: options.dataDir,
          version: options.version,
          now: Date.now(),
        }),
        models: () => [...dispatch.catalog().keys(), ...aliases.names()],
        cancel: (id) => clients.views.cancel(id),
        now,
      }),
      ready: () => !signal,
      draining: () => draining,
    }),
  );
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
  const serve = (how: Pick<ClientServerOptions, "listen" | "flag" | "api" | "onCertificate">) =>
    namingOwner(how.listen.port, () =>
      startClientServer({
        ...how,
        tls: options.tls ?? null,
        log,
        idleTimeoutS: settings.idleTimeoutS,
        tlsPollMs: settings.tlsPollMs,
      }),
    );
  const server = stack.use(
    await serve({
      listen: options.listen,
      flag: "listen",
      api: clients.api,
      onCertificate(pem) {
        certificate = pem;
        note();
      },
    }),
  );
  url = urlOf(server, options.listen);
  note();
  const adminListen = options.adminListen ?? null;
  const adminServer =
    adminListen &&
    stack.use(await serve({ listen: adminListen, flag: "admin-listen", api: clients.adminApi }));
  const adminUrl = adminServer && adminListen && urlOf(adminServer, adminListen);
  stack.defer(() => writeFrontNote(options.dataDir, null));
  membership.noteOwner(ownerText({ url, adminUrl }));
  events.record({
    level: "info",
    kind: "head",
    text: `the head has started, llmnode ${options.version}`,
  });
  const running = stack.move();
  let stopped: Promise<void> | null = null;

  const stop = async (force?: AbortSignal) => {
    signal = true;
    // A balancer in front is to look elsewhere before requests are refused here.
    await until(() => false, { timeoutMs: settings.shutdownDelayMs, force });
    draining = true;
    // They may go on for ever, and can be read on later.
    clients.logs.endAll();
    clients.views.endAll();
    // They dial again as soon as their sessions end, whoever is there then.
    const text = "it is stopping; engines run on, and its next life is waited for";
    for (const worker of state.workers.values()) {
      sessions.send(worker, {
        message: "notice",
        notice: { code: "shutting_down", text, hint: "" },
      });
    }
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
    adminUrl,
    name: server.name,
    sessionAddress: workers.sessionAddress,
    joinToken: membership.joinTokens.first,
    async reloadTls() {
      await Promise.all([server.reloadTls(), adminServer?.reloadTls()]);
    },
    stop: ({ force } = {}) => (stopped ??= stop(force)),
    async [Symbol.asyncDispose]() {
      await (stopped ??= stop(AbortSignal.abort()));
    },
  };
}

/** Throws `usage` for the first that is none. */
function checkRanges(ranges: readonly string[]): void {
  try {
    blockList(ranges);
  } catch (error) {
    throw new LlmnodeError("usage", messageOf(error), { cause: error });
  }
}

function urlOf({ scheme, port }: ClientServer, { host }: HostPort): string {
  return `${scheme}://${formatHostPort({ host: nearHost(host), port })}`;
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
