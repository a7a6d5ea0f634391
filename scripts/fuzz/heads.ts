/** Fuzzes a real head in this process: what clients send it, and what workers tell it. */

import fc from "fast-check";
import { operatorOf, startTestHead, FAST, type TestHead } from "../../test/helpers/cluster.ts";
import { fakeWorker } from "../../test/helpers/cluster.ts";
import { chatAnswer, eventStream, startEngine } from "../../test/helpers/engine.ts";
import { laneWorker } from "../../test/helpers/lanes.ts";
import { ODD_MESSAGE } from "../../test/helpers/odd-messages.ts";
import { helloOf, rawWorker } from "../../test/helpers/raw-worker.ts";
import { tempDir } from "../../test/helpers/temp.ts";
import { waitFor } from "../../test/helpers/wait.ts";
import { type Fuzzer, must, mustEqual } from "./fuzzer.ts";
import { oddText, type Random } from "./random.ts";
import { requestOf, sendRaw } from "./requests.ts";

/** What only a bug answers with; the other 50x say what is missing, and are in the table of docs/api.md. */
const BUG = 500;
const MODELS = ["good-direct", "good-lane"];
const CLIENTS = 8;

interface Cluster extends AsyncDisposable {
  head: TestHead;
  /** Throws unless all is as at the beginning: nothing runs, both workers serve, no bug was logged. */
  check(input: unknown): Promise<void>;
}

async function startCluster(): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const engine = stack.use(startEngine((_, body) => answerTo(body)));
  const dataDir = stack.use(tempDir()).path;
  const head = stack.use(
    await startTestHead(
      {
        ...FAST,
        cluster: { ...FAST.cluster, staleAfterMs: 5000, lostAfterMs: 10_000, queueTimeoutMs: 200 },
        maxBodyBytes: 256 * 1024,
        bodyTimeoutMs: 200,
      },
      { dataDir, insecure: true },
    ),
  );
  stack.use(fakeWorker(head, { port: engine.port, models: ["good-direct"] }));
  stack.use(await laneWorker(head, { port: engine.port, models: ["good-lane"] }));
  for (const model of MODELS) await head.ready(model);
  const operator = operatorOf(dataDir);
  const running = stack.move();

  const check = async (input: unknown) => {
    for (const model of MODELS) {
      const body = JSON.stringify({ model, messages: [] });
      const headers = { "content-type": "application/json", ...operator };
      const answer = await fetch(`${head.url}/v1/chat/completions`, {
        method: "POST",
        body,
        headers,
      });
      must(
        answer.status === 200,
        `${model} answers ${answer.status}: ${await answer.text()}`,
        input,
      );
      if (!answer.bodyUsed) await answer.text();
    }
    const idle = async () =>
      (await statusOf(head, operator)).models.every((row) => row.in_flight === 0);
    await waitFor(idle, { what: "no request in flight" }).catch((error: unknown) => {
      throw new Error(`${String(error)}\ninput: ${JSON.stringify(input)}`);
    });
    const bugs = head.lines.filter((line) => /level=error|internal error/.test(line));
    mustEqual(bugs, [], { what: "the head's log tells of a bug", input });
    const unclean = head.lines.filter((line) =>
      /[\u0000-\u0009\u000b-\u001f\u007f\u009b]/.test(line),
    );
    mustEqual(unclean, [], { what: "a line of the log is not clean", input });
    head.lines.length = 0;
  };
  return { head, check, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

async function statusOf(head: TestHead, headers: Record<string, string>) {
  const answer = await fetch(`${head.url}/api/v1/status`, { headers });
  return (await answer.json()) as { models: { in_flight: number }[] };
}

/** Now and then it does what engines do: streams, refuses, breaks off. */
function answerTo(body: string): Response {
  if (body.includes('"refuse"'))
    return Response.json({ error: { message: "no" } }, { status: 400 });
  if (!/"stream"\s*:\s*true/.test(body)) return chatAnswer("ok");
  const frame = `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "a" } }] })}\n\n`;
  return eventStream([frame, frame, "data: [DONE]\n\n"]);
}

export const requests: Fuzzer = {
  name: "requests",
  about: "whatever clients send, the head answers or closes, serves on and counts right",
  // Its rounds take longest, and it has most to look at.
  turns: 4,
  async open() {
    const cluster = await startCluster();
    const { port } = new URL(cluster.head.url);
    const operator = Object.entries(cluster.head.operator).map(
      ([name, value]) => `${name}: ${value}`,
    );
    return {
      async once(random) {
        const sent = Array.from({ length: CLIENTS }, () =>
          requestOf(random, { models: MODELS, operator }),
        );
        const answers = await Promise.all(sent.map((request) => sendRaw(Number(port), request)));
        for (const [i, statuses] of answers.entries()) {
          must(!statuses.includes(BUG), "an internal error", sent[i]);
          must(
            statuses.every((status) => status >= 200 && status < 600),
            `${statuses.join()}`,
            sent[i],
          );
        }
        await cluster.check(sent);
      },
      [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
    };
  },
};

export const sessions: Fuzzer = {
  name: "sessions",
  about: "whatever workers tell, the head serves the others and says what it shows in clean lines",
  async open() {
    const cluster = await startCluster();
    const { head } = cluster;
    return {
      async once(random) {
        const raw = rawWorker(head);
        if (random.chance(0.7)) raw.say(helloOf(raw.id, { host: hostOf(random) }));
        const messages = fc.sample(ODD_MESSAGE, {
          seed: random.below(2 ** 31),
          numRuns: 1 + random.below(6),
        });
        for (const message of messages) raw.say(message);
        if (random.chance(0.3)) raw.send(Buffer.from(random.several(60, () => random.below(256))));
        await raw.end();
        for (const path of ["/api/v1/status", "/metrics", "/v1/models", "/v1/dnt/table"]) {
          const answer = await fetch(`${head.url}${path}`);
          must(answer.status === 200, `${path} answers ${answer.status}`, messages);
          const text = await answer.text();
          must(
            !/[\u0000-\u0009\u000b-\u001f\u007f\u009b]/.test(text),
            `${path} is not clean`,
            messages,
          );
        }
        await cluster.check(messages);
      },
      [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
    };
  },
};

function hostOf(random: Random): object {
  const text = () => oddText(random, 3).replaceAll("\ud800", "");
  return { hostname: text(), os: text(), arch: text(), cpus: random.below(2 ** 32) };
}
