import { expect, test } from "bun:test";
import type { HeadMessage } from "../../src/protocol/messages.ts";
import { type ServerSession, startSessionServer } from "../../src/protocol/session-server.ts";
import { type Link, startLink } from "../../src/worker/link.ts";
import { readHostFacts } from "../../src/telemetry/host.ts";
import { memoryLog } from "../helpers/cluster.ts";
import { waitFor } from "../helpers/wait.ts";

interface Pair extends AsyncDisposable {
  link: Link;
  log: string[];
  /** When beats came, in milliseconds. */
  beats: number[];
  sessions: ServerSession[];
  reached: (string | null)[];
}

/** A link and a head that welcomes it, and answers each beat by what the test says. */
async function pair(options: {
  host?: string;
  welcome?: { heartbeatIntervalMs: number; staleAfterMs: number };
  ack: (beat: number) => number | null;
}): Promise<Pair> {
  const beats: number[] = [];
  const sessions: ServerSession[] = [];
  const reached: (string | null)[] = [];
  const times = options.welcome ?? { heartbeatIntervalMs: 50, staleAfterMs: 250 };
  const server = await startSessionServer({
    listen: { host: "127.0.0.1", port: 0 },
    tls: null,
    onSession(session) {
      sessions.push(session);
      session.onMessage = (message) => {
        if (message.message === "hello") session.send(welcome(times));
        if (message.message !== "heartbeat") return;
        beats.push(performance.now());
        const heartbeatIntervalMs = options.ack(beats.length);
        if (heartbeatIntervalMs === null) return;
        const { sequence } = message.heartbeat;
        session.send({
          message: "heartbeatAck",
          heartbeatAck: { sequence, inFlight: 0, heartbeatIntervalMs },
        });
      };
    },
  });
  const { log, lines } = memoryLog();
  const link = startLink({
    head: { host: options.host ?? "127.0.0.1", port: server.address.port },
    tls: false,
    keys: () => [],
    onVerified() {},
    hello: (epoch) => ({
      ...{ protocol: 2, minProtocol: 2, version: "0", workerId: "worker-1", name: "w" },
      ...{ nameChosen: false, run: "r", epoch, labels: {}, host: readHostFacts() },
      ...{ sentAt: Date.now(), data: "auto", continues: "" },
    }),
    announce(_, address) {
      reached.push(address);
      return [];
    },
    onMessage() {},
    onRefusal() {},
    log,
    random: () => 0.1,
    settings: { reconnectFirstMs: 50, reconnectMaxMs: 100 },
  });
  return {
    ...{ link, beats, sessions, reached, log: lines },
    async [Symbol.asyncDispose]() {
      await link[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

function welcome(times: { heartbeatIntervalMs: number; staleAfterMs: number }): HeadMessage {
  return {
    message: "welcome",
    welcome: {
      ...{ protocol: 2, version: "0", headRun: "h", name: "w", lostAfterMs: 10_000, sentAt: 0 },
      ...{ credential: "", lanePort: 0, laneKey: "", lanes: 0, ...times },
    },
  };
}

test("a link follows the interval that the head tells, and is as much more patient", async () => {
  await using own = await pair({ ack: (beat) => (beat < 4 ? 0 : 600) });
  await waitFor(() => own.beats.length >= 7, { what: "seven beats" });
  const [, , , , fifth = 0, sixth = 0, seventh = 0] = own.beats;
  // Far longer than the head's silence might be by the welcome: it was not taken for gone.
  expect(Math.min(sixth - fifth, seventh - sixth)).toBeGreaterThan(400);
  expect([own.sessions.length, own.link.connected]).toEqual([1, true]);
});

test("a new session begins with what its welcome says", async () => {
  await using own = await pair({ ack: (beat) => (beat === 1 ? 60_000 : 0) });
  await waitFor(() => own.beats.length === 1);
  own.sessions[0]?.end();
  await waitFor(() => own.sessions.length === 2 && own.link.connected);
  await waitFor(() => own.beats.length >= 4);
});

test("an interval of nonsense neither floods the head nor ends the beats", async () => {
  await using own = await pair({ ack: (beat) => (beat === 1 ? 1 : beat > 20 ? 2 ** 32 - 1 : 0) });
  await waitFor(() => own.beats.length > 20);
  const [first = 0] = own.beats;
  // At the lowest that a worker does: 50 ms.
  expect(performance.now() - first).toBeGreaterThan(600);
  const count = own.beats.length;
  await Bun.sleep(200);
  expect([own.beats.length - count <= 1, own.link.connected]).toEqual([true, true]);
});

test("a head that is silent longer than it said is dropped and dialled anew", async () => {
  await using own = await pair({ ack: () => null });
  await waitFor(() => own.sessions.length === 2);
  expect(own.log.join("")).toContain("heard nothing for");
});

test("a link says which address it has reached, whatever the head's name", async () => {
  await using own = await pair({ host: "localhost", ack: () => 0 });
  await waitFor(() => own.reached.length === 1);
  expect(own.reached).toEqual(["127.0.0.1"]);
});
