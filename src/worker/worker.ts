/** The worker: takes its slot, runs or watches its engine, keeps the head informed, leaves in order. */

import { readEngineArgv } from "../engine/argv.ts";
import type { EngineStatus } from "../engine/status.ts";
import { startSupervisor, type Supervisor } from "../engine/supervisor.ts";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import {
  type HeadMessage,
  type HeartbeatAck,
  MIN_PROTOCOL,
  PROTOCOL,
  type Refusal,
  type UnknownMessage,
  type Welcome,
} from "../protocol/messages.ts";
import { readHostFacts } from "../telemetry/host.ts";
import { formatHostPort } from "../util/host-port.ts";
import { cleanLine } from "../util/text.ts";
import { openKeyring } from "./credential.ts";
import { waitUntilDrained } from "./drain.ts";
import { createEngineLog } from "./engine-log.ts";
import { type Slot, takeSlot } from "./identity.ts";
import { type LaneAddress, startLanes } from "./lanes.ts";
import { type Link, startLink } from "./link.ts";
import { WORKER_DEFAULTS, type WorkerOptions, type WorkerSettings } from "./options.ts";
import { createReporter } from "./report.ts";

export interface Worker extends AsyncDisposable {
  readonly name: string;
  /** Requests that the head has running here; null while that is not known. */
  readonly inFlight: number | null;
  /** Settles when the worker cannot go on: with the reason. */
  readonly ended: Promise<LlmnodeError>;
  /** Leaves the routing, lets requests end, stops the engine, says goodbye. */
  stop(options?: { force?: AbortSignal }): Promise<void>;
}

/** The number of a worker's only engine. */
const ENGINE = "1";

/**
 * Throws what `takeSlot`, `openKeyring` and `startSupervisor` throw; then nothing is left running.
 */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const settings = { ...WORKER_DEFAULTS, ...options.settings };
  const host = readHostFacts();
  await using stack = new AsyncDisposableStack();
  const slot = stack.use(
    takeSlot({
      dataDir: options.dataDir,
      machineId: host.machineId,
      hostname: host.hostname,
      name: options.name,
      command: "argv" in options.engine ? options.engine.argv : [options.engine.attach],
    }),
  );
  const running = await run({ options, settings, slot, host });
  stack.use(running);
  const rest = stack.move();
  let stopped: Promise<void> | null = null;
  const stop = async (force?: AbortSignal) => {
    await running.leave(force);
    await rest.disposeAsync();
  };
  return {
    get name() {
      return running.name();
    },
    get inFlight() {
      return running.inFlight();
    },
    ended: running.ended,
    stop: ({ force } = {}) => (stopped ??= stop(force)),
    async [Symbol.asyncDispose]() {
      await (stopped ??= stop(AbortSignal.abort()));
    },
  };
}

interface RunOptions {
  options: WorkerOptions;
  settings: WorkerSettings;
  slot: Slot;
  host: ReturnType<typeof readHostFacts>;
}

interface Running extends AsyncDisposable {
  name(): string;
  inFlight(): number | null;
  ended: Promise<LlmnodeError>;
  leave(force?: AbortSignal): Promise<void>;
}

async function run({ options, settings, slot, host }: RunOptions): Promise<Running> {
  const { log, engine } = options;
  const runId = crypto.randomUUID();
  const keyring = openKeyring({
    dir: slot.dir,
    dataDir: options.dataDir,
    headHost: options.head.host,
    joinToken: options.joinToken,
    log,
  });
  const ended = Promise.withResolvers<LlmnodeError>();
  const apiKey = "argv" in engine ? readEngineArgv(engine.argv, options.env).apiKey : null;
  const reporter = createReporter({
    engine: ENGINE,
    advertise: options.advertise,
    apiKey,
    now: Date.now,
  });
  let name = slot.name;
  let wasJoined = false;
  let leaving = false;
  let restarting: Promise<void> | null = null;
  let lastAck: HeartbeatAck | null = null;
  let link: Link | null = null;

  const logEngine = createEngineLog(log);
  const onChange = (status: EngineStatus) => {
    logEngine(status);
    for (const message of reporter.changes(status)) link?.send(message);
  };
  const startEngine = () =>
    startSupervisor({
      target: engine,
      port: options.port,
      engineId: `${slot.workerId}-${ENGINE}`,
      dir: slot.dir,
      env: options.env,
      log,
      onChange,
      onLine: options.printLine,
      settings: settings.supervisor,
      selfCommand: options.selfCommand,
    });
  let supervisor: Supervisor = await startEngine();

  let certificate: string | null = null;
  let laneAddress: LaneAddress | null = null;
  const lanes = startLanes({
    workerId: slot.workerId,
    address: () => laneAddress,
    maxLanes: settings.maxLanes,
    log,
    engine(number) {
      const { url } = supervisor.status();
      return number === ENGINE && url !== null ? { url, apiKey } : null;
    },
  });

  const restart = async (reason: string) => {
    log.info("restarting the engine", { reason });
    await supervisor.stop();
    if (leaving) return;
    try {
      supervisor = await startEngine();
    } catch (error) {
      log.error("the engine cannot be started again", { error: messageOf(error) });
    }
  };
  const take = (message: HeadMessage | UnknownMessage) => {
    switch (message.message) {
      case "heartbeatAck":
        lastAck = message.heartbeatAck;
        break;
      case "drain": {
        const { active, reason } = message.drain;
        log.info(active ? "the head gives no new requests" : "the head gives requests again", {
          reason: reason || undefined,
        });
        break;
      }
      case "openLanes":
        lanes.add(message.openLanes.count);
        break;
      case "restartEngine":
        restarting ??= restart(message.restartEngine.reason).finally(() => {
          restarting = null;
        });
        break;
      case "notice": {
        const hint = cleanLine(message.notice.hint, 500) || undefined;
        log.warn(`the head says: ${cleanLine(message.notice.text, 500)}`, { hint });
        break;
      }
      case "welcome":
      case "refusal":
        break;
      case undefined:
        log.debug("a message of a newer head was ignored");
    }
  };
  const onRefusal = (refusal: Refusal) => {
    const reason = cleanLine(refusal.reason, 500);
    const hint = cleanLine(refusal.hint, 500);
    log.warn(`the head refuses this worker: ${reason}`, { hint: hint || undefined });
    // Once it has been in, its engine may be serving: that goes on, and somebody may mend it. An
    // engine of which nothing is allowed serves nobody.
    if (refusal.retry || (wasJoined && refusal.code !== "model_not_allowed")) return;
    const hints = hint ? [hint] : [];
    ended.resolve(
      new LlmnodeError("join_failed", `the head refuses this worker: ${reason}`, { hints }),
    );
  };
  link = startLink({
    head: options.head,
    tls: !options.insecure,
    keys: keyring.keys,
    onVerified(verified) {
      certificate = verified.pem;
      keyring.verified(verified);
    },
    log,
    random: Math.random,
    settings: settings.link,
    onMessage: take,
    onRefusal,
    hello: (epoch) => ({
      protocol: PROTOCOL,
      minProtocol: MIN_PROTOCOL,
      version: options.version,
      workerId: slot.workerId,
      name: slot.name,
      nameChosen: slot.nameChosen,
      run: runId,
      epoch,
      labels: options.labels,
      host,
      sentAt: Date.now(),
      data: options.data,
    }),
    announce: (welcome) => {
      wasJoined = true;
      laneAddress = laneAddressOf(options, welcome, certificate);
      lanes.add(welcome.lanes);
      name = welcome.name;
      if (welcome.credential) keyring.keep(welcome.credential);
      lastAck = null;
      const messages = reporter.all(supervisor.status());
      return leaving ? [...messages, goodbye(false, settings.drainTimeoutMs)] : messages;
    },
  });
  const session = link;

  return {
    name: () => name,
    inFlight: () => (session.connected ? (lastAck?.inFlight ?? null) : null),
    ended: ended.promise,
    async leave(force) {
      leaving = true;
      session.send(goodbye(false, settings.drainTimeoutMs));
      // A head that never let it in has nothing running here.
      if (wasJoined) {
        await waitUntilDrained({ ...settings, link: session, log, lastAck: () => lastAck }, force);
      }
      await restarting;
      await supervisor.stop(force ? { force } : {});
      session.send(goodbye(true, 0));
    },
    async [Symbol.asyncDispose]() {
      lanes.close();
      await session[Symbol.asyncDispose]();
      await supervisor[Symbol.asyncDispose]();
    },
  };
}

/** Where the head says that its lanes are; null where it has none. */
function laneAddressOf(
  { head, insecure }: WorkerOptions,
  welcome: Welcome,
  certificate: string | null,
): LaneAddress | null {
  if (welcome.lanePort === 0) return null;
  const address = formatHostPort({ host: head.host, port: welcome.lanePort });
  const url = `${insecure ? "ws" : "wss"}://${address}/`;
  return { url, ca: insecure ? null : certificate, key: welcome.laneKey };
}

function goodbye(left: boolean, deadlineMs: number) {
  return {
    message: "goodbye" as const,
    goodbye: { left, reason: "the worker is stopping", deadlineMs },
  };
}
