import { describe, expect, test } from "bun:test";
import { existsSync, statSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commandTable } from "../../../src/cli/commands.ts";
import { type Candidate, complete, type LiveKind } from "../../../src/cli/complete/complete.ts";
import { liveNames } from "../../../src/cli/complete/names.ts";
import { tempDir } from "../../helpers/temp.ts";
import { cluster, detailOf, engine, model, request, worker } from "../../top/sample.ts";
import { type ListHead, run, startListHead } from "../lists/list-head.ts";

const NAMES: Record<LiveKind, string[]> = {
  workers: ["gpu-01", "gpu-02"],
  models: ["Qwen/Qwen3-8B", "llama:7b"],
  engines: ["gpu-01/1", "gpu-02/1"],
  requests: ["r7f3a91c"],
};

/** The words of a line; the last one is being typed. */
async function completed(line: string) {
  const names = (kind: LiveKind): Promise<Candidate[]> =>
    Promise.resolve(NAMES[kind].map((value) => ({ value, note: kind })));
  const { candidates, files } = await complete(line.split(" "), {
    commands: commandTable(),
    names,
  });
  const values = candidates.map(({ value }) => value);
  return files ? [...values, "(files)"] : values;
}

test.each([
  ["dra", ["drain"]],
  ["--head 10.0.0.5 undr", ["undrain"]],
  ["__c", []],
  ["nonsense ", []],
  ["drain ", ["gpu-01", "gpu-02"]],
  ["drain gpu-01 ", ["gpu-02"]],
  ["drain -m why gpu-0", ["gpu-01", "gpu-02"]],
  ["drain -m ", []],
  ["drain --no", ["--no-wait", "--no-color"]],
  ["drain --no-wait --no", ["--no-color"]],
  ["node gpu-02", ["gpu-02"]],
  ["logs ", ["gpu-01", "gpu-02"]],
  ["logs gpu-01 ", []],
  ["models Q", ["Qwen/Qwen3-8B"]],
  ["ps ", ["gpu-01/1", "gpu-02/1", "gpu-01", "gpu-02"]],
  ["cancel r", ["r7f3a91c"]],
  ["wait ", ["gpu-01", "gpu-02", "Qwen/Qwen3-8B", "llama:7b"]],
  ["wait --for ", ["ready", "drained", "lost"]],
  ["wait --for=dr", ["--for=drained"]],
  ["wait x --zzz=", []],
  ["top --view ", ["workers", "models", "requests", "events"]],
  ["key create --role op", ["operator"]],
  ["head --log-level=w", ["--log-level=warn"]],
  ["help wor", ["workers"]],
  ["key ", ["create", "list", "revoke"]],
  ["completion ", ["bash", "zsh", "fish"]],
  ["completion bash ", []],
  ["--token-file ", ["(files)"]],
  ["status --ca=x", ["(files)"]],
  ["join h -- ", ["(files)"]],
  ["status -- ", []],
  ["join ", []],
] as [string, string[]][])("llmnode %s", async (line, expected) => {
  expect(await completed(line)).toEqual(expected);
});

test("every command and every option can be completed", async () => {
  const commands = commandTable().filter(({ isHidden }) => isHidden !== true);
  expect(await completed("")).toEqual(commands.map(({ name }) => name));
  for (const { name, options } of commands) {
    const flags = await completed(`${name} --`);
    expect(flags).toEqual(expect.arrayContaining(options.map(({ flag }) => `--${flag}`)));
  }
});

describe("names that the head knows", () => {
  const told = (): Partial<ListHead["told"]> => ({
    ...cluster(),
    status: {
      workers: [
        detailOf(worker("gpu-01"), { engines: [engine("gpu-01/1", { models: [] })] }),
        ...["$(reboot)", "a b", "-rf"].map((name) => detailOf(worker(name))),
      ],
      models: [model("org/A:7b", { ready: 1, replicas: 2 }), model("`x`\n\u001b[2J")],
      services: [],
    },
  });
  const ask = (kind: LiveKind, head: { url: string }, cacheDir: string | null, now = 1_000_000) =>
    liveNames(kind, {
      client: { url: head.url, timeoutMs: 300, retryPausesMs: [] },
      cacheDir,
      now,
    });

  test("only such as a shell takes for what they are, each with a word about it", async () => {
    await using head = startListHead(told());
    expect(await ask("workers", head, null)).toEqual([{ value: "gpu-01", note: "ready" }]);
    expect(await ask("models", head, null)).toEqual([{ value: "org/A:7b", note: "1 of 2 ready" }]);
    expect(await ask("engines", head, null)).toEqual([{ value: "gpu-01/1", note: "" }]);
    expect((await ask("requests", head, null)).map(({ value }) => value)).toContain("r7f3aa40");
  });

  test("are remembered for 5 s, for their head alone, and for nobody else to read", async () => {
    await using dir = tempDir();
    await using head = startListHead(told());
    await using other = startListHead();
    const cache = join(dir.path, "a", "llmnode");
    await ask("workers", head, cache);
    await ask("models", head, cache, 1_004_999);
    expect(head.asked).toEqual(["/api/v1/status"]);
    const [file = ""] = readdirSync(cache);
    expect([statSync(cache).mode & 0o777, statSync(join(cache, file)).mode & 0o777]).toEqual([
      0o700, 0o600,
    ]);
    expect(await ask("workers", other, cache)).toEqual([]);
    await ask("workers", head, cache, 1_005_000);
    // A clock that was put back.
    await ask("workers", head, cache, 900_000);
    expect(head.asked.length).toBe(3);
    await ask("requests", head, cache);
    head.told.requests = [request("r-new")];
    expect((await ask("requests", head, cache)).length).toBe(7);
    expect(readdirSync(cache).every((name) => name.endsWith(".json"))).toBe(true);
    for (const name of readdirSync(cache)) writeFileSync(join(cache, name), "{");
    expect(await ask("workers", head, cache)).toHaveLength(1);
  });

  test("without a place to remember them", async () => {
    await using head = startListHead(told());
    expect(await ask("workers", head, "/dev/null/cache")).toHaveLength(1);
  });

  test("no answer, no names: and no word about it", async () => {
    await using dir = tempDir();
    await using head = startListHead(told());
    const env = { XDG_CACHE_HOME: dir.path };
    const typed = (...words: string[]) => run(head, ["__complete", "--", ...words], { env });
    expect(await typed("drain", "")).toEqual({
      code: 0,
      stdout: "gpu-01\tready\n:4\n",
      stderr: "",
    });
    const nobody = await typed("drain", "--head", "127.0.0.1:1", "");
    expect(nobody).toEqual({ code: 0, stdout: ":4\n", stderr: "" });
    expect((await typed("--head", "not an address", "drain", "")).stdout).toBe(":4\n");
    expect((await typed("--token-file=-", "drain", "g")).stdout).toBe("gpu-01\tready\n:4\n");
    expect((await typed("wait", "--token-file", "")).stdout).toBe(":0\n");
    expect((await run(head, ["__complete"], { env })).stdout).toContain("drain\tgive a worker");
    await using slow = startListHead(told());
    slow.delayMs = 2000;
    const began = performance.now();
    expect((await run(slow, ["__complete", "--", "drain", ""], { env })).stdout).toBe(":4\n");
    expect(performance.now() - began).toBeLessThan(1900);
    expect(existsSync(join(dir.path, "llmnode"))).toBe(true);
  });
});
