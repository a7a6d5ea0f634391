import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { readLocalAdmin } from "../../src/protocol/head-files.ts";
import { freePort } from "../helpers/free-port.ts";
import { ownEnvironment } from "../helpers/environment.ts";
import { processesWithEnvironment, runProcess, spawnProcess } from "../helpers/process.ts";
import { tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";
import { SELF } from "../helpers/worker.ts";

setDefaultTimeout(90_000);

const FIXTURE = path.join(import.meta.dir, "fixtures/secretive-engine.ts");
const ENGINE_KEY = "engine-key-5d0c3f9be1";
const HUB_TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWx";
const PROMPT = "prompt-of-a-client-81f2";
const QUERY = "query-secret-77ab01";
const PASSWORD = "password-of-a-proxy-04cc";

/** An environment with a home of its own, no setting of the person who runs the tests, and a mark. */
const environment = (home: string, mark: string, extra: Record<string, string> = {}) =>
  ownEnvironment(home, { SECRETS_TEST: mark, ...extra });

/** The argv of everything that this test has started. */
function commandLines(mark: string): string {
  return processesWithEnvironment(`SECRETS_TEST=${mark}`)
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ");
      } catch {
        return ""; // it has ended meanwhile
      }
    })
    .join("\n");
}

function filesBelow(dir: string): string[] {
  const below = readdirSync(dir, { recursive: true, withFileTypes: true });
  return [
    dir,
    ...below.filter((one) => !one.isSocket()).map((one) => path.join(one.parentPath, one.name)),
  ];
}

function modeOf(file: string): string {
  return (statSync(file).mode & 0o777).toString(8);
}

test("no secret shows up in what a full run prints, logs, answers or runs", async () => {
  using home = tempDir();
  const mark = crypto.randomUUID();
  const data = path.join(home.path, "data");
  const env = environment(home.path, mark, { LLMNODE_DATA: data });
  const shown = new Map<string, string>();

  const listen = ["--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"];
  await using head = spawnProcess([...SELF, "head", ...listen, "--debug"], { env });
  const [, url = "", sessions = ""] = await head.waitForLine(/url=(\S+) sessions=(\S+) /);
  const local = readLocalAdmin(data);
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await runProcess([...SELF, ...args, "--head", url], { env });
    return { code, text: stdout + stderr };
  };
  const token = (await run("join-token", "show")).text.trim();
  expect(token.length).toBeGreaterThan(40);

  // An engine's program by its usual name, and secrets in all the places where people put them.
  const vllm = path.join(home.path, "vllm");
  writeFileSync(vllm, `#!/bin/sh\nexec ${process.execPath} ${FIXTURE} "$@"\n`);
  chmodSync(vllm, 0o755);
  const port = freePort();
  const join = spawnProcess(
    [
      ...[
        ...SELF,
        "join",
        sessions,
        "--token",
        token,
        "--env",
        `VLLM_API_KEY=${ENGINE_KEY}`,
        "--debug",
      ],
      ...["--", vllm, "serve", "m", "--port", String(port)],
    ],
    {
      env: {
        ...env,
        HF_TOKEN: HUB_TOKEN,
        LLMNODE_DATA: path.join(home.path, "worker"),
        HTTP_PROXY: `http://me:${PASSWORD}@127.0.0.1:9/`,
      },
    },
  );
  await using worker = join;
  const isReady = async () =>
    /"ready":1\b/.test(await (await fetch(`${url}/api/v1/status`)).text());
  await waitFor(isReady, { what: "a ready replica", timeoutMs: 30_000 });
  shown.set("command lines", commandLines(mark));

  const made = await run("key", "create", "--name", "k", "--json");
  const apiKey = /sk-ln-[0-9A-Za-z-]+/.exec(made.text)?.[0] ?? "";
  const wrongKey = `${apiKey.slice(0, -12)}WrongWrong12`;
  const ask = async (
    what: string,
    headers: Record<string, string>,
    content: string,
    query = "",
  ) => {
    const body = JSON.stringify({
      model: what === "unknown model" ? QUERY : "m",
      messages: [{ role: "user", content }],
    });
    const answer = await fetch(`${url}/v1/chat/completions${query}`, {
      method: "POST",
      body: what === "no JSON" ? `{"api_key":"${apiKey}" ${PROMPT}` : body,
      headers: { "content-type": "application/json", ...headers },
    });
    const text = await answer.text();
    if (what !== "unknown model") shown.set(what, `${text} ${JSON.stringify([...answer.headers])}`);
    return answer.status;
  };
  const bearer = { authorization: `Bearer ${apiKey}` };
  expect(await ask("answer", bearer, PROMPT, `?api_key=${QUERY}`)).toBe(200);
  expect(await ask("wrong key", { authorization: `Bearer ${wrongKey}` }, PROMPT)).toBe(401);
  expect(await ask("two keys", { ...bearer, "x-api-key": wrongKey }, PROMPT)).toBe(400);
  expect(await ask("basic", { authorization: `Basic ${btoa(`me:${PASSWORD}`)}` }, PROMPT)).toBe(
    401,
  );
  expect(
    await ask("wrong admin token", { authorization: `Bearer ln-admin-${"0".repeat(48)}` }, PROMPT),
  ).toBe(401);
  expect(await ask("no JSON", bearer, PROMPT)).toBe(400);
  expect(await ask("no key", {}, PROMPT)).toBe(401);
  expect(await ask("refused", bearer, "refuse")).toBe(400);
  expect(await ask("crash", bearer, "crash")).toBeGreaterThanOrEqual(500);
  const crashed = async () =>
    (await (await fetch(`${url}/api/v1/status`)).text()).includes("CUDA error");
  await waitFor(crashed, { what: "the reason of the crash", timeoutMs: 30_000 });

  for (const path of [
    "/api/v1/status",
    "/metrics",
    "/v1/dnt/table",
    "/v1/models",
    "/",
    "/api/v1/requests",
  ]) {
    shown.set(path, await (await fetch(`${url}${path}`)).text());
  }
  for (const args of [
    ["status"],
    ["status", "--verbose"],
    ["status", "--json"],
    ["top", "--once"],
    ["top", "--json"],
    ["audit"],
    ["audit", "--json"],
    ["usage", "--json"],
    ["key", "list", "--json"],
    ["join-token", "list"],
    ["doctor"],
    ["config", "print"],
    ["logs", "--tail", "20", "no-such-worker"],
  ]) {
    shown.set(`llmnode ${args.join(" ")}`, (await run(...args)).text);
  }
  shown.set("command lines at the end", commandLines(mark));
  worker.kill("SIGTERM");
  await worker.finished;
  head.kill("SIGTERM");
  await head.finished;
  shown.set("the head's output", head.output());
  // What the engine prints itself goes on to the terminal of its worker as it is.
  shown.set(
    "the worker's output",
    worker.output().replaceAll(/^.*(?:Namespace|RuntimeError).*$/gm, ""),
  );
  shown.set(
    "the audit log",
    filesBelow(path.join(data, "head"))
      .filter((file) => file.includes("audit"))
      .map((file) => (statSync(file).isFile() ? readFileSync(file, "utf8") : ""))
      .join("\n"),
  );

  const credentials = filesBelow(path.join(home.path, "worker"))
    .filter((file) => file.endsWith("credential.json"))
    .map((file) => readFileSync(file, "utf8"));
  const secrets = {
    "the join token": token.split(".")[0] ?? "",
    "the admin token": local?.token ?? "",
    "an API key": apiKey.split("-").at(-1) ?? "",
    "a wrong API key": wrongKey.split("-").at(-1) ?? "",
    "the engine's key": ENGINE_KEY,
    "a hub's token": HUB_TOKEN,
    "a client's prompt": PROMPT,
    "a secret in a query": QUERY,
    "a password": PASSWORD,
    "a password in base64": btoa(`me:${PASSWORD}`),
    "a worker's credential": /"credential":\s*"([^"]+)"/.exec(credentials.join())?.[1] ?? "",
  };
  const found = Object.entries(secrets).flatMap(([what, secret]) => {
    expect([what, secret.length > 8]).toEqual([what, true]);
    return [...shown].flatMap(([where, text]) => {
      const at = text.indexOf(secret);
      return at === -1 ? [] : [`${what} in ${where}: ${text.slice(Math.max(0, at - 80), at + 80)}`];
    });
  });
  expect(found).toEqual([]);

  for (const dir of [data, path.join(home.path, "worker")]) {
    const open = filesBelow(dir).filter((file) => !/^(?:6|7|4)00$/.test(modeOf(file)));
    expect(open.map((file) => `${file.slice(dir.length)} ${modeOf(file)}`)).toEqual([]);
  }
});

test("what others could read of a head's files is closed when it starts, and told", async () => {
  using home = tempDir();
  const data = path.join(home.path, "data");
  const env = environment(home.path, crypto.randomUUID(), { LLMNODE_DATA: data });
  const listen = ["--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0"];
  const start = () => spawnProcess([...SELF, "head", ...listen], { env });
  await using first = start();
  await first.waitForLine(/url=/);
  first.kill("SIGTERM");
  await first.finished;
  const folder = path.join(data, "head");
  for (const file of filesBelow(folder))
    chmodSync(file, statSync(file).isDirectory() ? 0o755 : 0o644);
  await using second = start();
  await second.waitForLine(/url=/);
  const open = filesBelow(folder).filter((file) => (statSync(file).mode & 0o077) !== 0);
  expect(open).toEqual([]);
  expect(second.output()).toContain("was readable by other users");
});
