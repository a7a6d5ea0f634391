/** The head: opens its ports and wires its sides towards workers and clients together. */

import path from "node:path";
import { isKnownModel } from "../cluster/state/registry.ts";
import { type ClusterState, createCluster } from "../cluster/state/state.ts";
import { ownerText } from "../protocol/head-files.ts";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { blockList } from "../util/address-ranges.ts";
import type { HostPort } from "../util/host-port.ts";
import { startTicks } from "../util/sleep.ts";
import { openGuard } from "./access/guard.ts";
import { operatorRoutes } from "./admin/routes.ts";
import { type ClientSide, createClientSide, type Phase } from "./client-side.ts";
import { startDrains } from "./drains/drains.ts";
import { loadDrains } from "./drains/orders.ts";
import { createEventNotes } from "./events/notes.ts";
import { createEvents } from "./events/events.ts";
import { type Front, startFront } from "./front.ts";
import type { AuthFailure } from "./metrics/keys.ts";
import { HEAD_DEFAULTS, type HeadOptions, type HeadSettings } from "./options.ts";
import { startUsage } from "./quota/usage.ts";
import { openMembership } from "./sessions/membership.ts";
import { createAliases } from "./store/aliases.ts";
import { keepKnownModels, loadKnownModels } from "./store/known-models.ts";
import { startWorkerSide, type WorkerSide } from "./worker-side.ts";

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
  /** Reads the certificate and the key for clients again, where there are any. Never rejects. */
  reloadTls(): Promise<void>;
  /** Lets running requests end, within `stopTimeoutMs` or until `force`; engines run on. */
  stop(options?: { force?: AbortSignal }): Promise<void>;
}

/** Throws `port_in_use`, `address_unusable`, `data_dir_unusable`; `usage` also for TLS files. */
export async function startHead(options: HeadOptions): Promise<Head> {
  const settings = { ...HEAD_DEFAULTS, ...options.settings };
  const { log, dataDir, version } = options;
  // Before anything is opened: it may be what the command line got wrong.
  checkRanges([...(options.allowAdvertise ?? []), ...(options.trustedProxies ?? [])]);
  await using stack = new AsyncDisposableStack();
  const now = () => performance.timeOrigin + performance.now();
  const head = { id: crypto.randomUUID(), version };
  const state = createCluster(now(), settings.cluster);
  const { onTick } = stack.use(startTicks(state.limits.tickIntervalMs));
  const membership = stack.use(await openMembership(options));
  const { store } = membership;
  const onFailure = (reason: AuthFailure) => clients.keyMetrics.authFailed(reason);
  const guard = stack.use(openGuard({ ...options, store, onFailure }));
  const usage = stack.use(
    startUsage({ dir: path.join(dataDir, "head"), log, now, settings: settings.usage }),
  );
  // Before the first worker is let in.
  loadDrains(state, { store, log });
  loadKnownModels(state, { store, now: now() });
  const { knownModelsMs: everyMs, knownModelsAgeMs: refreshMs } = settings;
  stack.use(keepKnownModels({ state, store, now, everyMs, refreshMs }));
  const events = createEvents({ now });
  const notes = stack.use(createEventNotes(events));
  const workers = stack.use(
    await startWorkerSide({ options, settings, membership, state, head, onTick, now, notes }),
  );
  const { dispatch, sessions } = workers;
  const { catalog } = dispatch;
  const isKnown = (model: string) => isKnownModel(state, model, now());
  const aliases = stack.use(createAliases({ store, catalog, isKnown, random: Math.random, log }));
  const drains = stack.use(
    startDrains({
      ...{ state, catalog, store, onTick, now, log },
      tell: sessions.send,
      onTransition: dispatch.onTransition,
      repeatMs: settings.drainRepeatMs,
    }),
  );
  const phase: Phase = { isReady: true, isDraining: false };
  const operators = operatorRoutes({
    ...{ state, guard, membership, sessions, aliases, drains, usage, now },
    backup: () => ({ store, dataDir, version, now: Date.now() }),
    models: () => [...catalog().keys(), ...aliases.names()],
    cancel: (id) => clients.views.cancel(id),
  });
  const clients = stack.use(
    await createClientSide({
      ...{ options, settings, state, head, now, workers, aliases, events, notes, usage, phase },
      access: guard.access,
      operatorRoutes: operators,
    }),
  );
  const front = stack.use(await startFront({ options, settings, ...clients }));
  const { url, adminUrl, name } = front;
  membership.noteOwner(ownerText({ url, adminUrl }));
  const text = `the head has started, llmnode ${version}`;
  events.record({ level: "info", kind: "head", text });
  const running = stack.move();
  const stop = async (force?: AbortSignal) => {
    await drainHead({ settings, phase, state, clients, workers, front, force });
    await running.disposeAsync();
  };
  let stopped: Promise<void> | null = null;
  return {
    id: head.id,
    url,
    adminUrl,
    name,
    sessionAddress: workers.sessionAddress,
    joinToken: () => membership.joinTokens.first(),
    reloadTls: () => front.reloadTls(),
    stop: ({ force } = {}) => (stopped ??= stop(force)),
    [Symbol.asyncDispose]: () => (stopped ??= stop(AbortSignal.abort())),
  };
}

interface StopContext {
  settings: Pick<HeadSettings, "shutdownDelayMs" | "stopTimeoutMs">;
  phase: Phase;
  state: ClusterState;
  clients: Pick<ClientSide, "logs" | "views">;
  workers: Pick<WorkerSide, "dispatch" | "sessions">;
  front: Pick<Front, "isBusy">;
  force: AbortSignal | undefined;
}

/** Lets running requests end, and ends those that do not in time. */
async function drainHead(head: StopContext): Promise<void> {
  const { settings, phase, state, clients, workers, front, force } = head;
  phase.isReady = false;
  // A balancer in front is to look elsewhere before requests are refused here.
  await until(() => false, { timeoutMs: settings.shutdownDelayMs, force });
  phase.isDraining = true;
  // They may go on for ever, and can be read on later.
  clients.logs.endAll();
  clients.views.endAll();
  // They dial again as soon as their sessions end, whichever head is there then.
  const text = "the head is stopping; engines run on, and the worker reconnects when it is back";
  const notice = { code: "shutting_down", text, hint: "" } as const;
  for (const worker of state.workers.values()) {
    workers.sessions.send(worker, { message: "notice", notice });
  }
  const isQuiet = () => !front.isBusy();
  await until(isQuiet, { timeoutMs: settings.stopTimeoutMs, force });
  if (isQuiet()) return;
  workers.dispatch.endAll();
  await until(isQuiet, { timeoutMs: 1000, force: undefined });
}

/** Throws `usage` for the first that is none. */
function checkRanges(ranges: readonly string[]): void {
  try {
    blockList(ranges);
  } catch (error) {
    throw new LlmnodeError("usage", messageOf(error), { cause: error });
  }
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
