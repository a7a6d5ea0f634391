import { expect, test } from "bun:test";
import { FAST, fakeWorker, startTestHead } from "../../helpers/cluster.ts";
import { chatAnswer, eventStream, startEngine } from "../../helpers/engine.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const chat = (model: string, more: object = {}) => ({ model, messages: [], ...more });

/** A head with a stream that runs, and a request that waits for an engine that is still starting. */
async function busyHead(settings: { stopTimeoutMs: number }) {
  const stack = new AsyncDisposableStack();
  const gate = Promise.withResolvers<void>();
  stack.defer(gate.resolve);
  const engine = stack.use(
    startEngine((_, body) =>
      body.includes('"stream":true')
        ? eventStream(
            (async function* () {
              yield 'data: {"choices":[]}\n\n';
              await gate.promise;
              yield "data: [DONE]\n\n";
            })(),
          )
        : chatAnswer("late, but here"),
    ),
  );
  const head = stack.use(await startTestHead({ ...FAST, ...settings }));
  const running = stack.use(fakeWorker(head, { port: engine.port, models: ["m"] }));
  const starting = stack.use(fakeWorker(head, { models: ["slow"] }));
  await head.ready("m");
  const stream = await head.post(CHAT, chat("m", { stream: true }));
  const waiting = head.post(CHAT, chat("slow"));
  await waitFor(async () => {
    const models: { name: string; queued?: number }[] = (await head.status()).models;
    return models.find(({ name }) => name === "slow")?.queued === 1;
  });
  return { stack, gate, engine, head, running, starting, stream, waiting };
}

test("what waits in the queue of a head that stops is still served while something runs", async () => {
  const busy = await busyHead({ stopTimeoutMs: 5000 });
  await using _ = busy.stack;
  const stopped = busy.head.head.stop();
  const notice = await busy.running.next("notice");
  expect(notice.notice).toMatchObject({ code: "shutting_down" });
  busy.starting.report({ port: busy.engine.port });
  const answer = await busy.waiting;
  expect([answer.status, await answer.text()]).toEqual([200, expect.stringContaining("late")]);
  busy.gate.resolve();
  expect(await busy.stream.text()).toEndWith("data: [DONE]\n\n");
  await stopped;
});

test("what still waits at the end of the stop's time gets 503 with Retry-After", async () => {
  const busy = await busyHead({ stopTimeoutMs: 200 });
  await using _ = busy.stack;
  const stopped = busy.head.head.stop();
  const answer = await busy.waiting;
  expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
  expect(await answer.text()).toContain('"code":"shutting_down"');
  expect(await busy.stream.text()).toContain('{"error":');
  await stopped;
});
