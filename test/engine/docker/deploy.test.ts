import { describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import { freePort } from "../../helpers/free-port.ts";
import { binaryPath } from "../../helpers/binary.ts";
import { runProcess } from "../../helpers/process.ts";
import { waitFor } from "../../helpers/wait.ts";
import { composeWords, docker, dockerTrouble } from "./daemon.ts";

const FOLDER = resolve(import.meta.dir, "../../../scripts/container");
const compose = await composeWords();
const trouble = (await dockerTrouble()) ?? (compose === null ? "compose is not installed" : null);
if (trouble !== null) console.warn(`SKIPPED: llmnode in containers: ${trouble}`);

describe.skipIf(trouble !== null)("llmnode in containers", () => {
  test("the image builds without a registry, and the example serves, healthy and not as root", async () => {
    const tag = `llmnode-test-${crypto.randomUUID().slice(0, 8)}:deploy`;
    const project = tag.split(":")[0] ?? "";
    const url = `127.0.0.1:${freePort()}`;
    const env = { LLMNODE_IMAGE: tag, LLMNODE_PORT: url, LLMNODE_BINARY: await binaryPath() };
    const call = async (...words: string[]) => {
      const done = await runProcess(words, { env, timeoutMs: 120_000 });
      if (done.code !== 0) throw new Error(`${words.join(" ")}: ${done.stderr}`);
      return done.stdout;
    };
    const up = [...(compose ?? []), "-p", project, "-f", `${FOLDER}/compose.yaml`];
    await using undo = new AsyncDisposableStack();
    undo.defer(async () => {
      await call(...up, "down", "-v", "-t", "5");
      await docker("rmi", "-f", tag);
    });
    await call(`${FOLDER}/build.sh`, tag);
    await call(...up, "up", "-d");

    const listModels = async () => {
      const answer = await fetch(`http://${url}/v1/models`).catch(() => null);
      const list = (await answer?.json()) as { data: { id: string }[] } | undefined;
      return list?.data.map((model) => model.id).sort() ?? [];
    };
    const slow = { timeoutMs: 60_000 };
    await waitFor(async () => (await listModels()).join() === "demo,tiny", {
      what: "models",
      ...slow,
    });
    const body = JSON.stringify({
      model: "tiny",
      messages: [{ role: "user", content: "hello" }],
      max_tokens: 4,
    });
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`http://${url}/v1/chat/completions`, {
      method: "POST",
      headers,
      body,
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("x-llmnode-worker")).toBe("attached");

    const label = `label=com.docker.compose.project=${project}`;
    const ids = (await docker("ps", "-q", "--filter", label)).split("\n");
    expect(ids).toHaveLength(5);
    const health = async () => {
      const states = await docker(
        "inspect",
        "--format",
        "{{if .State.Health}}{{.State.Health.Status}}{{end}}",
        ...ids,
      );
      return states.split("\n").filter((state) => state === "healthy").length;
    };
    await waitFor(async () => (await health()) === 4, { what: "health", ...slow });
    expect(await docker("inspect", "--format", "{{.Config.User}}", tag)).toBe("65532:65532");
  }, 180_000);
});
