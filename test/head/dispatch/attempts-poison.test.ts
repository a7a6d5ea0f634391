import { expect, test } from "bun:test";
import OpenAI from "openai";
import { startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { sim, startTestWorker, tempDir } from "../../helpers/worker.ts";
import { waitFor } from "../../helpers/wait.ts";

const POISON = "divide by zero";

/** How often engines have been started again. */
async function restarts(head: TestHead): Promise<number> {
  const { workers } = await head.status();
  return workers
    .flatMap(({ engines }) => engines)
    .reduce((sum, engine) => sum + engine.restarts, 0);
}

test.each(["direct", "lane"])(
  "a request that kills engines kills two of four, though its client retries (%s)",
  async (way) => {
    await using head = await startTestHead({ cluster: { settleMs: 0 }, reprobeMs: 200 });
    await using stack = new AsyncDisposableStack();
    const flags = ["--model", "m", "--fault", `crash-on-text=${POISON}`];
    for (let i = 0; i < 4; i += 1) {
      const data = stack.use(tempDir());
      const engine = { argv: sim(...flags) };
      stack.use(await startTestWorker(head, data.path, { engine, data: way }));
    }
    await head.ready("m", 4);
    const client = new OpenAI({ baseURL: `${head.url}/v1`, apiKey: "x", maxRetries: 2 });
    const ask = (content: string) =>
      client.chat.completions
        .create({ model: "m", messages: [{ role: "user", content }], max_tokens: 4 })
        .then(
          () => null,
          (error: unknown) => error,
        );
    for (let i = 0; i < 2; i += 1) {
      const error = await ask(`please ${POISON}`);
      expect(error).toBeInstanceOf(OpenAI.APIError);
      expect(error).toMatchObject({ status: 502, code: "engine_crashed" });
    }
    await waitFor(async () => (await restarts(head)) >= 2);
    await head.ready("m", 4);
    expect(await restarts(head)).toBe(2);
    // Nobody else has suffered.
    for (let i = 0; i < 8; i += 1) expect(await ask(`hello ${i}`)).toBeNull();
    expect(await restarts(head)).toBe(2);
  },
  60_000,
);
