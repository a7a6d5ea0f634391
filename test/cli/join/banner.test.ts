import { expect, test } from "bun:test";
import { workerBanner, type WorkerFacts } from "../../../src/cli/join/banner.ts";

const FACTS: WorkerFacts = {
  name: "gpu-01",
  head: { host: "127.0.0.1", port: 8093 },
  engine: { argv: ["vllm", "serve", "my model", "--api-key", "s3cret-enough"] },
  until: null,
  env: { PATH: "/nowhere" },
};

test("on the head's machine: what it is, and what comes next", () => {
  const lines = workerBanner(FACTS).split("\n");
  expect(lines[0]).toMatch(/^llmnode \d+\.\d+\.\d+: worker gpu-01 is up, Ctrl-C leaves$/);
  expect(lines.slice(1)).toEqual([
    "",
    "  head       127.0.0.1:8093",
    "  engine     vllm serve 'my model' --api-key ***   (its output follows, after e1|)",
    "  watch      llmnode top",
    "  wait       llmnode wait gpu-01 --for ready",
    "",
    "",
  ]);
});

test.each([
  [{ host: "10.0.0.5", port: 8093 }, "llmnode top --head 10.0.0.5:8092\n"],
  [{ host: "fd00::5", port: 8093 }, "llmnode top --head [fd00::5]:8092\n"],
  // Where the worker's port of the head is another one, so may be the other.
  [{ host: "10.0.0.5", port: 9000 }, "llmnode top --head 10.0.0.5:<the head's HTTP port>\n"],
])("of the head at %p", (head, expected) => {
  expect(workerBanner({ ...FACTS, head })).toContain(expected);
});

test("an engine of others, and an end that is known", () => {
  const until = "2026-02-03T14:02:31.000Z";
  const engine = { attach: "http://127.0.0.1:11434" };
  const text = workerBanner({ ...FACTS, engine, until });
  expect(text).toContain("  engine     http://127.0.0.1:11434, which is run by others\n");
  expect(text).toContain(`  until      ${until}\n`);
});
