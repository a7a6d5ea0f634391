import { afterEach, beforeEach, expect, test } from "bun:test";
import { startHead } from "../../../src/head/head.ts";
import { memoryLog } from "../../helpers/cluster.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";

let dir: TempDir;
beforeEach(() => {
  dir = tempDir();
});
afterEach(() => dir[Symbol.dispose]());

const options = (http: number, session: number, host = "127.0.0.1") => ({
  listen: { host, port: http },
  sessionListen: { host: "127.0.0.1", port: session },
  insecure: false,
  dataDir: dir.path,
  version: "0",
  log: memoryLog().log,
});

test("a taken port is named, with who has it, and the other one is let go", async () => {
  using other = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data() {} },
  }) as unknown as Disposable & { port: number };
  const owner = process.platform === "linux" ? ` by .*\\(pid ${process.pid}\\)` : "";
  const text = (what: string) =>
    new RegExp(`cannot listen for ${what} on 127.0.0.1:${other.port}: the port is taken${owner}`);
  await expect(startHead(options(other.port, 0))).rejects.toThrow(text("clients"));
  await expect(startHead(options(0, other.port))).rejects.toThrow(text("workers"));
  await expect(startHead(options(other.port, 0))).rejects.toMatchObject({ code: "port_in_use" });
});

test("an address that this machine does not have is named", async () => {
  await expect(startHead(options(0, 0, "203.0.113.1"))).rejects.toMatchObject({
    code: "address_unusable",
    message: expect.stringContaining("203.0.113.1"),
  });
});

test("--allow-advertise takes addresses and ranges only", async () => {
  for (const range of ["host", "10.0.0.0/33", "10.0.0.0/x", "::1/129"]) {
    const wrong = startHead({ ...options(0, 0), allowAdvertise: [range] });
    await expect(wrong).rejects.toMatchObject({ code: "usage" });
  }
});
