/** The head's side towards workers: who may come in, their sessions, their lanes, and dispatch. */

import { readHostFacts } from "../telemetry/host.ts";
import type { ClusterState } from "../cluster/state/state.ts";
import { startSessionServer } from "../protocol/session-server.ts";
import type { HostPort } from "../util/host-port.ts";
import { createHttpClient, type HttpClient } from "../util/http/client.ts";
import type { OnTick } from "../util/sleep.ts";
import { type Dispatch, startDispatch } from "./dispatch/dispatch.ts";
import { startLaneServer } from "./transport/lane-server.ts";
import type { EventNotes } from "./events/notes.ts";
import { LANE_SETTINGS } from "./transport/lane-pool.ts";
import { createLaneSwitch, type LaneSwitch } from "./transport/lane-switch.ts";
import type { Membership } from "./sessions/membership.ts";
import type { HeadOptions, HeadSettings } from "./options.ts";
import { namingOwner } from "./port-owner.ts";
import { createRefusalLog, mismatchReason, type Refused } from "./events/refusal-log.ts";
import { createSessions, type Sessions } from "./sessions/session.ts";
import { startStallWatch } from "./sessions/stalls.ts";

export interface WorkerSideOptions {
  options: HeadOptions;
  settings: HeadSettings;
  membership: Membership;
  state: ClusterState;
  head: { id: string; version: string };
  notes: EventNotes;
  /** Every `limits.tickIntervalMs` of the state. */
  onTick: OnTick;
  now: () => number;
}

export interface WorkerSide extends AsyncDisposable {
  lanes: LaneSwitch;
  /** What reaches engines directly. */
  http: HttpClient;
  dispatch: Dispatch;
  sessions: Sessions;
  readonly sessionAddress: HostPort;
}

/** Throws `port_in_use`, `address_unusable`. */
export async function startWorkerSide(side: WorkerSideOptions): Promise<WorkerSide> {
  const { options, settings, membership, state, head, now, notes, onTick } = side;
  const { log, allowAdvertise = [] } = options;
  const place = readHostFacts();
  await using stack = new AsyncDisposableStack();
  const lanes = stack.use(createLaneSwitch({ state, now, place, settings: settings.lanes }));
  const http = stack.use(createHttpClient());
  const dispatch = stack.use(
    startDispatch({
      state,
      lanes,
      onTick,
      http,
      now,
      log,
      random: Math.random,
      route: { head: place, allowAdvertise, probeTimeoutMs: settings.probeTimeoutMs },
      reprobeMs: settings.reprobeMs,
      ...(options.routing && { routing: options.routing }),
      notes,
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
  const logRefused = createRefusalLog({ log, now });
  const onRefused = (refused: Refused) => {
    if (logRefused(refused)) notes.refused(refused);
  };
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
    onTransition: dispatch.onTransition,
    onRouteStale: dispatch.checkRoute,
    onJoined: notes.joined,
    onEngine: notes.engine,
    onReport: dispatch.onReport,
  });
  stack.use(
    startStallWatch({ state, onTick, now, log, send: sessions.send, onSuspicion: notes.suspicion }),
  );
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
  const running = stack.move();
  return {
    lanes,
    http,
    dispatch,
    sessions,
    sessionAddress: sessionServer.address,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}
