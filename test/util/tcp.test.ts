import { expect, test } from "bun:test";
import { probeTcp } from "../../src/util/tcp.ts";
import { startEngine } from "../helpers/engine.ts";

test("a port that accepts is told from one that does not", async () => {
  const engine = startEngine(() => new Response(""));
  const address = { host: "127.0.0.1", port: engine.port };
  expect(await probeTcp(address, 2000)).toBe(null);
  await engine[Symbol.asyncDispose]();
  expect(await probeTcp(address, 2000)).toBe("connection refused");
});

test.each([
  { host: "", port: 80 },
  { host: "127.0.0.1", port: 70_000 },
  { host: "no such name", port: 80 },
])("%j is no address, which is said and not thrown", async (address) => {
  expect(await probeTcp(address, 2000)).toBeString();
});
