import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import {
  type Check,
  failed,
  isHealthy,
  ok,
  reportJson,
  reportLines,
  warning,
} from "../../../src/cli/doctor/check.ts";
import { examine, type Examination } from "../../../src/cli/doctor/examine.ts";
import { clock, streamVerdict } from "../../../src/cli/doctor/http.ts";
import { versionVerdict } from "../../../src/cli/doctor/link.ts";
import { checkDescriptors } from "../../../src/cli/doctor/machine.ts";
import { fakeWorker, keyOf, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { startEngine } from "../../helpers/engine.ts";
import { runProcess } from "../../helpers/process.ts";
import { tempDir, type TempDir } from "../../helpers/temp.ts";

const MAIN = resolve(import.meta.dir, "../../../src/main.ts");

let head: TestHead;
let empty: TempDir;
beforeAll(async () => {
  empty = tempDir();
  head = await startTestHead({}, { tls: true });
});
afterAll(async () => {
  await head[Symbol.asyncDispose]();
  empty[Symbol.dispose]();
});

/** A good set-up, but for what a test changes. */
function subject(more: Partial<Examination> = {}): Examination {
  return {
    url: head.url,
    session: head.head.sessionAddress,
    // Any port that is open: which one lanes have is told to workers only.
    lane: head.head.sessionAddress,
    insecure: false,
    joinToken: head.head.joinToken(),
    dataDir: empty.path,
    engine: null,
    version: "0.0.0-test",
    timeoutMs: 3000,
    toolTimeoutMs: 100,
    ...more,
  };
}

/** One check; those of other ports than the clients' need no test stream, which takes its time. */
async function find(more: Partial<Examination>, name: string): Promise<Check> {
  const needsHttp = ["http", "streaming"].includes(name);
  const url = needsHttp ? head.url : "http://127.0.0.1:1";
  const checks = await examine(subject({ url, ...more }));
  const found = checks.find((check) => check.name === name);
  if (!found) throw new Error(`no check ${name} among ${checks.map((one) => one.name).join(", ")}`);
  return found;
}

/** Plain HTTP with no head behind it. */
function plainServer(answer: (request: Request) => Response | Promise<Response>) {
  return Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: answer });
}

/** A port at which nothing listens. */
function closedPort(): { host: string; port: number } {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = server;
  server.stop(true);
  return { host: "127.0.0.1", port };
}

describe("the report", () => {
  const checks = [
    ok("name", "fine"),
    warning("clock", "slow\u001b[31m\nhand", "set it"),
    failed("http port", "closed", "open it"),
  ];

  test("lines, next steps and a summary", () => {
    expect(reportLines(checks)).toEqual([
      "ok       name       fine",
      "warning  clock      slow hand",
      "                    next: set it",
      "FAILED   http port  closed",
      "                    next: open it",
      "",
      "1 ok, 1 warning, 1 failed",
    ]);
  });

  test("as JSON, and what counts as healthy", () => {
    expect(JSON.parse(reportJson(checks))).toEqual({
      schema: "llmnode.doctor/1",
      checks: [
        { name: "name", status: "ok", detail: "fine", hint: null },
        { name: "clock", status: "warning", detail: "slow hand", hint: "set it" },
        { name: "http port", status: "failed", detail: "closed", hint: "open it" },
      ],
    });
    expect([isHealthy(checks), isHealthy(checks.slice(0, 2))]).toEqual([false, true]);
  });
});

describe("verdicts", () => {
  const at = Date.parse("2026-01-02T03:04:05Z");
  const date = "Fri, 02 Jan 2026 03:04:05 GMT";

  test.each([
    [date, 0, "ok"],
    [date, 5900, "ok"],
    [date, 7000, "warning"],
    [date, -7000, "warning"],
    [date, 86_390_000, "warning"],
    [date, 86_410_000, "failed"],
    [date, -86_410_000, "failed"],
    [null, 0, "warning"],
    ["yesterday", 0, "warning"],
  ] as [string | null, number, string][])(
    "the clock %p, ours %p ms later: %p",
    (header, ms, is) => {
      expect(clock(header, at + ms).status).toBe(is as never);
    },
  );

  test.each([
    [[10, 510], "ok"],
    [[10, 300], "ok"],
    [[510, 511], "failed"],
    [[10], "failed"],
    [[], "failed"],
  ] as [number[], string][])("comments of the test stream at %p: %p", (arrived, is) => {
    expect(streamVerdict(arrived).status).toBe(is as never);
  });

  test.each([
    ["Max open files            65535                1048576              files", "ok"],
    ["Max open files            unlimited            unlimited            files", "ok"],
    ["Max open files            1024                 524288               files", "warning"],
    ["", "warning"],
  ])("descriptors: %p: %p", (line, is) => {
    expect(checkDescriptors(`Limit  Soft Limit  Hard Limit\n${line}\n`).status).toBe(is as never);
  });

  test("versions", () => {
    const refusal = {
      code: "version_unsupported",
      reason: "too old",
      hint: "update",
      retry: false,
    };
    const known = { refusal: { ...refusal, code: "bad_message" } };
    const both = { ours: "1.0.0", theirs: "1.0.0" };
    expect(versionVerdict(known, both).status).toBe("ok");
    expect(versionVerdict(known, { ...both, theirs: "1.1.0" }).status).toBe("warning");
    expect(versionVerdict(known, { ...both, theirs: null }).status).toBe("ok");
    expect(versionVerdict(null, { ...both, theirs: null }).status).toBe("warning");
    expect(versionVerdict({ silence: "gone" }, { ...both, theirs: null }).status).toBe("warning");
    expect(versionVerdict({ refusal }, both)).toMatchObject({ status: "failed", hint: "update" });
  });
});

describe("a good head", () => {
  test("everything about it is ok, in this order, and nothing joins", async () => {
    const checks = await examine(subject());
    expect(checks.slice(0, 10).map(({ name, status }) => [name, status])).toEqual([
      ["name", "ok"],
      ["http port", "ok"],
      ["session port", "ok"],
      ["lane port", "ok"],
      ["http", "ok"],
      ["tls", "ok"],
      ["join token", "ok"],
      ["clock", "ok"],
      ["version", "ok"],
      ["streaming", "ok"],
    ]);
    expect(checks.slice(10).map(({ name }) => name)).toEqual([
      "docker",
      "nvidia-smi",
      "open files",
    ]);
    expect((await head.status()).workers).toEqual([]);
    expect(head.lines.join("")).toContain("llmnode doctor (a test, not a worker)");
  });

  test("a worker's credential is looked at where there is no join token; the worker stays", async () => {
    using dir = tempDir();
    await using other = await startTestHead({}, { tls: true });
    await using worker = fakeWorker(other, { tls: true, hello: { name: "kept" } });
    const { welcome } = await worker.next("welcome");
    const slot = join(dir.path, "workers", "this-machine", "slot-1");
    mkdirSync(slot, { recursive: true });
    const [key] = keyOf(other.head.joinToken());
    writeFileSync(
      join(slot, "credential.json"),
      JSON.stringify({ credential: welcome.credential, fingerprint: key?.fingerprint }),
    );
    writeFileSync(join(slot, "slot.json"), JSON.stringify({ worker_id: worker.id, command: [] }));
    const session = other.head.sessionAddress;
    expect(await find({ session, joinToken: null, dataDir: dir.path }, "join token")).toMatchObject(
      {
        status: "ok",
        detail: "the head accepts the credential of a worker here",
      },
    );
    expect((await other.status()).workers).toMatchObject([
      { name: "kept", state: "starting", state_detail: "no engine yet" },
    ]);
  });

  test("without a join token its key and the token are not checked, which fails nothing", async () => {
    const checks = await examine(subject({ joinToken: null }));
    const of = (name: string) => checks.find((check) => check.name === name);
    expect(of("tls")).toMatchObject({ status: "warning" });
    expect(of("join token")).toMatchObject({ status: "warning" });
    expect(isHealthy(checks)).toBe(true);
  });

  test("an engine is named with its models", async () => {
    await using engine = startEngine((request) =>
      new URL(request.url).pathname === "/v1/models"
        ? Response.json({ object: "list", data: [{ id: "m", object: "model" }] })
        : new Response("", { status: 404 }),
    );
    const url = `http://127.0.0.1:${engine.port}`;
    expect(await find({ engine: url }, "engine")).toMatchObject({
      status: "ok",
      detail: expect.stringContaining("1 model: m"),
    });
  });
});

describe("broken set-ups", () => {
  test("no head at all", async () => {
    const none = closedPort();
    const url = `http://127.0.0.1:${none.port}`;
    const checks = await examine(subject({ url, session: none, lane: none }));
    const wrong = checks.filter(({ status }) => status === "failed").map(({ name }) => name);
    expect(wrong).toEqual(["http port", "session port", "lane port", "http", "tls"]);
    expect(checks.find(({ name }) => name === "session port")?.detail).toEndWith(
      "connection refused",
    );
    expect(checks.every(({ status, hint }) => status === "ok" || hint !== null)).toBe(true);
  });

  test("one port closed", async () => {
    expect(await find({ lane: closedPort() }, "lane port")).toMatchObject({
      status: "failed",
      hint: expect.stringContaining("--lane-port"),
    });
  });

  test("a name that leads nowhere", async () => {
    const session = { host: "no-such-host.invalid", port: 8093 };
    const checks = await examine(subject({ session }));
    expect(checks.slice(0, 2).map(({ name, status }) => [name, status])).toEqual([
      ["name", "failed"],
      ["head", "warning"],
    ]);
  });

  test("a join token of another head is not shown to this one", async () => {
    const joinToken = `${"0".repeat(48)}.${"A".repeat(43)}`;
    expect(await find({ joinToken }, "tls")).toMatchObject({ status: "failed" });
    expect(await find({ joinToken }, "join token")).toMatchObject({ status: "warning" });
  });

  test("a join token that the head does not know", async () => {
    const fingerprint = head.head.joinToken()?.split(".")[1] ?? "";
    const joinToken = `${"0".repeat(48)}.${fingerprint}`;
    expect(await find({ joinToken }, "join token")).toMatchObject({
      status: "failed",
      hint: expect.stringContaining("llmnode join-token show"),
    });
  });

  test("half a join token", async () => {
    expect(await find({ joinToken: "abc.d" }, "join token")).toMatchObject({ status: "failed" });
  });

  test("a plain server where TLS should be", async () => {
    await using server = plainServer(() => new Response("hello"));
    const session = { host: "127.0.0.1", port: server.port ?? 0 };
    for (const joinToken of [head.head.joinToken(), null]) {
      expect(await find({ session, joinToken }, "tls")).toMatchObject({
        status: "failed",
        detail: expect.stringContaining("does not speak TLS"),
      });
    }
  });

  test("--insecure against a head with TLS", async () => {
    expect(await find({ insecure: true }, "join token")).toMatchObject({ status: "failed" });
  });

  test("something else at the port for clients", async () => {
    await using server = plainServer(() => new Response("hello"));
    const url = `http://127.0.0.1:${server.port}`;
    expect(await find({ url }, "http")).toMatchObject({ status: "failed" });
  });

  test("a proxy that holds streams back", async () => {
    await using proxy = plainServer(async (request) => {
      const answer = await fetch(head.url + new URL(request.url).pathname);
      return new Response(await answer.text(), { status: answer.status, headers: answer.headers });
    });
    const url = `http://127.0.0.1:${proxy.port}`;
    expect(await find({ url }, "streaming")).toMatchObject({
      status: "failed",
      hint: expect.stringContaining("proxy_buffering off"),
    });
    expect(await find({ url }, "http")).toMatchObject({ status: "ok" });
  });

  test("an engine that is not there", async () => {
    const engine = `http://127.0.0.1:${closedPort().port}`;
    expect(await find({ engine }, "engine")).toMatchObject({ status: "failed" });
  });
});

describe("the command", () => {
  const run = async (args: string[], token: string | null) =>
    await runProcess([process.execPath, MAIN, "doctor", ...args], {
      env: {
        HOME: empty.path,
        LLMNODE_HEAD: undefined,
        LLMNODE_DATA: undefined,
        LLMNODE_TOKEN: token ?? undefined,
      },
      timeoutMs: 20_000,
    });
  const address = () => `127.0.0.1:${head.head.sessionAddress.port}`;
  const lane = () => ["--lane-port", String(head.head.sessionAddress.port)];

  test("exits with 0 on a good head and with 1 on a broken set-up", async () => {
    const good = await run(
      [address(), "--head", head.url, ...lane(), "--json"],
      head.head.joinToken(),
    );
    expect([good.code, good.stderr]).toEqual([0, ""]);
    expect(JSON.parse(good.stdout)).toMatchObject({ schema: "llmnode.doctor/1" });
    const bad = await run([address(), "--head", head.url, ...lane()], "abc.d");
    expect(bad.code).toBe(1);
    expect(bad.stdout).toMatch(/^FAILED +join token +the join token is incomplete/m);
    expect(bad.stdout).toMatch(/\d+ ok, \d+ warnings?, 1 failed\n$/);
  });

  test("what is no address, and a file that is not there, are usage errors", async () => {
    expect(await run(["a/b"], null)).toMatchObject({
      code: 2,
      stderr: 'error: doctor: "a/b" is not an address: host, host:port or [v6]:port\n',
    });
    const { code, stderr } = await run(["--token-file", "/no/such/file"], null);
    expect([code, stderr.split(" cannot")[0]]).toEqual([2, "error: --token-file /no/such/file"]);
  });
});

test("the head's test stream ends by itself, and a client may leave it", async () => {
  const response = await fetch(`${head.url}/health/stream`);
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  expect(await response.text()).toBe(": keep-alive\n\n: keep-alive\n\n");
  const leaving = new AbortController();
  const left = await fetch(`${head.url}/health/stream`, { signal: leaving.signal });
  await left.body?.getReader().read();
  leaving.abort();
  const asked = await fetch(`${head.url}/health/stream`, { method: "HEAD" });
  expect([asked.status, await asked.text()]).toEqual([200, ""]);
  expect((await fetch(`${head.url}/health/stream`, { method: "POST" })).status).toBe(405);
});
