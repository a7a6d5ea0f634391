import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fillBare } from "../../../src/cli/parse/line.ts";
import { createOptions } from "../../../src/cli/base/options.ts";
import { readViaProxy, VIA_PROXY_OPTION } from "../../../src/cli/daemon/via-proxy.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { parseProxyUrl, shownProxy } from "../../../src/util/host-port.ts";
import { FAST, startTestHead } from "../../helpers/cluster.ts";
import { startConnectProxy } from "../../helpers/connect-proxy.ts";
import { startEngine } from "../../helpers/engine.ts";
import { spawnProcess } from "../../helpers/process.ts";
import { SELF, tempDir } from "../../helpers/worker.ts";

test.each([
  ["http://proxy:3128", "http://proxy:3128"],
  ["proxy:3128", "http://proxy:3128"],
  ["https://proxy", "https://proxy"],
  ["http://[::1]:8080/", "http://[::1]:8080"],
  ["http://jo:pa@proxy:1", "http://***@proxy:1"],
  ["http://jo@proxy:1", "http://***@proxy:1"],
  ["socks5://proxy:1080", null],
  ["http://proxy:1/path", null],
  ["http://proxy:1?x", null],
  ["http://%zz@proxy:1", null],
  ["http://", null],
  ["", null],
  ["a b", null],
])("the proxy %p is %p", (text, shown) => {
  const url = parseProxyUrl(text);
  expect(url && shownProxy(url)).toBe(shown);
});

const read = (flag: string[], env: Record<string, string> = {}) => {
  try {
    const flags = flag.length === 0 ? new Map() : new Map([["via-proxy", flag]]);
    return readViaProxy(createOptions([VIA_PROXY_OPTION], { flags, env }), env)?.href ?? null;
  } catch (error) {
    if (error instanceof LlmnodeError) return `${error.code}: ${error.message}`;
    throw error;
  }
};

test("the flag, its variable, and what the environment names", () => {
  const env = { HTTPS_PROXY: "http://env:1", ALL_PROXY: "http://all:1" };
  expect(read([], env)).toBeNull();
  expect(read(["http://flag:1"], env)).toBe("http://flag:1/");
  expect(read(["env"], env)).toBe("http://env:1/");
  expect(read(["env"], { ...env, HTTPS_PROXY: "" })).toBe("http://all:1/");
  expect(read([], { ...env, LLMNODE_VIA_PROXY: "1" })).toBe("http://env:1/");
  expect(read([], { ...env, LLMNODE_VIA_PROXY: "0" })).toBeNull();
  expect(read([], { ...env, LLMNODE_VIA_PROXY: "own:1" })).toBe("http://own:1/");
  expect(read(["env"])).toMatch(/^usage: --via-proxy: neither HTTPS_PROXY nor ALL_PROXY names/);
  expect(read(["env"], { ALL_PROXY: "socks5://jo:secret@s:1" })).toBe(
    'usage: ALL_PROXY needs the URL of an HTTP proxy, such as http://proxy:3128, not "socks5://jo:***@s:1"; SOCKS proxies are not supported',
  );
});

test("the flag may stand alone, whatever comes after it", () => {
  const fill = (...argv: string[]) => fillBare(argv, [VIA_PROXY_OPTION]);
  expect(fill("join", "--via-proxy", "10.0.0.5", "--", "x")).toEqual([
    "join",
    "--via-proxy=env",
    "10.0.0.5",
    "--",
    "x",
  ]);
  for (const argv of [
    ["join", "h", "--via-proxy", "http://p:1", "--", "x"],
    ["join", "h", "--via-proxy=p:1"],
    ["join", "h", "--", "x", "--via-proxy", "y"],
  ]) {
    expect(fill(...argv)).toEqual(argv);
  }
  expect(fill("join", "h", "--via-proxy")).toEqual(["join", "h", "--via-proxy=env"]);
  expect(fill("join", "--via-proxy", "--", "http://x")).toEqual([
    "join",
    "--via-proxy=env",
    "--",
    "http://x",
  ]);
});

test("join goes through the proxy if told to only, and shows its credentials to nobody", async () => {
  await using engine = startEngine(() => new Response("{}"));
  const url = `http://127.0.0.1:${engine.port}`;
  await using proxy = await startConnectProxy();
  await using head = await startTestHead(FAST, { tls: true });
  const session = `127.0.0.1:${head.head.sessionAddress.port}`;
  const join = (dir: string, flags: string[], env: Record<string, string>) =>
    spawnProcess(
      [...SELF, "join", ...flags, session, "--attach", url, "--data-dir", dir, "--transport=lane"],
      { env: { ...env, LLMNODE_TOKEN: head.head.joinToken() ?? "" } },
    );
  const named = { HTTPS_PROXY: proxy.url, https_proxy: proxy.url, ALL_PROXY: proxy.url };
  const other = { grpc_proxy: proxy.url, http_proxy: proxy.url, HTTP_PROXY: proxy.url };
  {
    using dir = tempDir();
    await using plain = join(dir.path, [], { ...named, ...other });
    await plain.waitForLine(/joined/);
    expect(proxy.asked).toEqual([]);
  }
  {
    using dir = tempDir();
    await using bare = join(dir.path, ["--via-proxy"], named);
    await bare.waitForLine(/joined/);
    expect(proxy.asked).toContain(session);
  }
  {
    using dir = tempDir();
    proxy.answer = { text: "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n" };
    const secret = `http://jo:s3cret@127.0.0.1:${proxy.port}`;
    await using wrong = join(dir.path, ["--via-proxy", secret], {});
    await wrong.waitForLine(/cannot reach the head at .*does not accept the credentials \(407/);
    expect(proxy.shown.at(-1)).toBe(`Basic ${btoa("jo:s3cret")}`);
    expect(wrong.output()).not.toContain("s3cret");
    if (process.platform === "linux") {
      expect(readFileSync(`/proc/${wrong.pid}/cmdline`, "utf8")).not.toContain("s3cret");
    }
    proxy.answer = null;
    await wrong.waitForLine(/joined/);
  }
});
