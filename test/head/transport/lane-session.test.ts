import { expect, test } from "bun:test";
import type { TestHead } from "../../helpers/cluster.ts";
import { FAST, fakeWorker, startTestHead } from "../../helpers/cluster.ts";
import { eventStream, startEngine, type TestEngine } from "../../helpers/engine.ts";
import { laneWorker } from "../../helpers/lanes.ts";
import { openRelay } from "../../helpers/relay.ts";
import { waitFor } from "../../helpers/wait.ts";
import { startTestWorker, tempDir } from "../../helpers/worker.ts";

const CHAT = "/v1/chat/completions";
const WAYS = ["lane", "direct"] as const;
const STREAM = { model: "m", messages: [], stream: true };

/** An engine that says one event, and the rest when the test says so. */
function gatedEngine(): TestEngine & { release: () => void } {
  const gate = Promise.withResolvers<void>();
  const engine = startEngine((request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/v1/models") return Response.json({ data: [{ id: "m", owned_by: "vllm" }] });
    if (pathname !== CHAT) return new Response("");
    return eventStream(
      (async function* () {
        yield "data: 1\n\n";
        await gate.promise;
        yield "data: [DONE]\n\n";
      })(),
    );
  });
  return Object.assign(engine, { release: () => gate.resolve() });
}

async function begin(head: TestHead): Promise<{ rest: () => Promise<string> }> {
  const reader = (await head.post(CHAT, STREAM)).body?.getReader();
  const first = await reader?.read();
  expect(Buffer.from(first?.value ?? []).toString()).toBe("data: 1\n\n");
  return {
    async rest() {
      let text = "";
      for (;;) {
        const piece = await reader?.read();
        if (!piece || piece.done) return text;
        text += Buffer.from(piece.value).toString();
      }
    },
  };
}

const inFlight = async (head: TestHead) =>
  (await head.status()).models.find(({ name }) => name === "m")?.in_flight;
const stateOf = async (head: TestHead) => (await head.status()).workers[0]?.state;

test.each(WAYS)("a session that breaks leaves running streams alone (%s)", async (data) => {
  using dir = tempDir();
  await using engine = gatedEngine();
  await using head = await startTestHead(FAST);
  await using relay = await openRelay(head.head.sessionAddress);
  await using _ = await startTestWorker(head, dir.path, {
    head: relay.address,
    data,
    engine: { attach: `http://127.0.0.1:${engine.port}` },
  });
  await head.ready("m");
  const stream = await begin(head);
  relay.open = false;
  relay.cut();
  await waitFor(async () => (await stateOf(head)) === "stale");
  expect(await inFlight(head)).toBe(1);
  relay.open = true;
  await waitFor(async () => (await stateOf(head)) === "ready");
  await head.ready("m");
  expect([await inFlight(head), engine.aborted]).toEqual([1, 0]);
  engine.release();
  expect(await stream.rest()).toBe("data: [DONE]\n\n");
  await waitFor(async () => (await inFlight(head)) === 0);
});

test.each(WAYS)("a stream ends well while its worker's session is away (%s)", async (data) => {
  using dir = tempDir();
  await using engine = gatedEngine();
  await using head = await startTestHead(FAST);
  await using relay = await openRelay(head.head.sessionAddress);
  await using _ = await startTestWorker(head, dir.path, {
    head: relay.address,
    data,
    engine: { attach: `http://127.0.0.1:${engine.port}` },
  });
  await head.ready("m");
  const stream = await begin(head);
  relay.open = false;
  relay.cut();
  await waitFor(async () => (await stateOf(head)) === "stale");
  engine.release();
  expect(await stream.rest()).toBe("data: [DONE]\n\n");
  await waitFor(async () => (await inFlight(head)) === 0);
});

test.each(WAYS)(
  "a session that comes back replaces the old one at once; what that says late is ignored (%s)",
  async (data) => {
    using dir = tempDir();
    await using engine = gatedEngine();
    await using head = await startTestHead({
      ...FAST,
      // The old session is to be there still when the new one comes.
      cluster: { ...FAST.cluster, lostAfterMs: 10_000 },
    });
    await using relay = await openRelay(head.head.sessionAddress);
    await using worker = await startTestWorker(head, dir.path, {
      head: relay.address,
      data,
      engine: { attach: `http://127.0.0.1:${engine.port}` },
    });
    await head.ready("m");
    const stream = await begin(head);
    const thaw = relay.freeze();
    const joined = () => worker.log.filter((line) => line.includes("msg=joined")).length;
    await waitFor(() => joined() === 2, { what: "a second session" });
    await head.ready("m");
    // Beats of the old session, and its end.
    thaw();
    await waitFor(() => relay.connections === 1);
    expect(await stateOf(head)).toBe("ready");
    expect([(await head.status()).workers.length, await inFlight(head)]).toEqual([1, 1]);
    engine.release();
    expect(await stream.rest()).toBe("data: [DONE]\n\n");
    await waitFor(async () => (await inFlight(head)) === 0);
    expect([await stateOf(head), joined()]).toEqual(["ready", 2]);
  },
);

test.each(WAYS)(
  "another run is refused while the old one is heard, then let in, and the old one's streams end (%s)",
  async (data) => {
    await using engine = gatedEngine();
    await using head = await startTestHead(FAST);
    const own = { port: engine.port, models: ["m"] };
    await using old =
      data === "lane"
        ? await laneWorker(head, own)
        : fakeWorker(head, { ...own, hello: { data: "direct" } });
    await head.ready("m");
    const stream = await begin(head);
    const hello = { workerId: old.id, name: old.id, run: "another-run" };
    await using early = fakeWorker(head, { hello });
    const { refusal } = await early.next("refusal");
    expect([refusal.code, refusal.retry]).toEqual(["worker_in_use", true]);
    expect(refusal.reason).toContain("already runs as another process");
    expect([await stateOf(head), await inFlight(head)]).toEqual(["ready", 1]);

    old.silence();
    await waitFor(async () => (await stateOf(head)) === "stale");
    await using next = fakeWorker(head, { hello, models: ["other"] });
    await next.next("welcome");
    const rest = await stream.rest();
    expect(rest).toContain('"error"');
    expect(rest).not.toContain("[DONE]");
    await old.closed;
    await waitFor(async () => ((await inFlight(head)) ?? 0) === 0);
    expect((await head.status()).workers.length).toBe(1);
  },
);
