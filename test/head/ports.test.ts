import { expect, test } from "bun:test";
import { startHead } from "../../src/head/head.ts";
import { memoryLog } from "../helpers/cluster.ts";

const options = (http: number, session: number, host = "127.0.0.1") => ({
  listen: { host, port: http },
  sessionListen: { host: "127.0.0.1", port: session },
  insecure: false,
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

test("sessions in the clear on other addresses than loopback need --insecure", async () => {
  const open = { ...options(0, 0), sessionListen: { host: "0.0.0.0", port: 0 } };
  await expect(startHead(open)).rejects.toMatchObject({ code: "usage" });
  await using head = await startHead({ ...open, insecure: true });
  expect(head.sessionAddress.port).toBeGreaterThan(0);
});

test("--allow-advertise takes addresses and ranges only", async () => {
  for (const range of ["host", "10.0.0.0/33", "10.0.0.0/x", "::1/129"]) {
    const wrong = startHead({ ...options(0, 0), allowAdvertise: [range] });
    await expect(wrong).rejects.toMatchObject({ code: "usage" });
  }
});
