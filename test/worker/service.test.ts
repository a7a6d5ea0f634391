import { expect, test } from "bun:test";
import { FAST, startTestHead, type TestHead } from "../helpers/cluster.ts";
import { startEngine } from "../helpers/engine.ts";
import { waitFor } from "../helpers/wait.ts";
import { startTestWorker, tempDir } from "../helpers/worker.ts";

interface Status {
  services: { name: string; ready: number; replicas: number }[];
  models: unknown[];
}

async function readyReplicas(head: TestHead): Promise<number | undefined> {
  const status = (await head.status()) as unknown as Status;
  expect(status.models).toEqual([]);
  return status.services.find(({ name }) => name === "echo")?.ready;
}

/** An HTTP server as a command: it says where it listens, and tells what it was asked. */
const SERVER = `
const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: async (request) =>
  new Response(request.method + " " + new URL(request.url).pathname + " " + await request.text(),
    { status: 404 }) });
console.log("listening on http://127.0.0.1:" + server.port);`;

for (const data of ["direct", "lane"] as const) {
  test(`a command is offered as a service by ${data} once it answers, and goes with its worker`, async () => {
    using dir = tempDir();
    await using head = await startTestHead(FAST);
    const engine = { argv: [process.execPath, "-e", SERVER] };
    await using worker = await startTestWorker(head, dir.path, { engine, data, service: "echo" });
    await waitFor(async () => (await readyReplicas(head)) === 1, { what: "the service" });
    const url = `${head.url}/v1/service/echo/a/b`;
    const answer = await fetch(url, { method: "POST", body: "said" });
    expect([answer.status, await answer.text()]).toEqual([404, "POST /a/b said"]);
    await worker.worker.stop();
    await waitFor(async () => (await readyReplicas(head)) === undefined);
    const gone = await fetch(url);
    expect([503, 404]).toContain(gone.status);
  });
}

test("an attached server with a health path is a service while that path answers 2xx", async () => {
  using dir = tempDir();
  let isWell = false;
  await using server = startEngine((request) => {
    const isProbe = new URL(request.url).pathname === "/healthz";
    return new Response("x", { status: isProbe && !isWell ? 500 : 200 });
  });
  await using head = await startTestHead(FAST);
  await using worker = await startTestWorker(head, dir.path, {
    engine: { attach: `http://127.0.0.1:${server.port}` },
    service: "echo",
    healthPath: "/healthz",
  });
  await waitFor(() => worker.log.some((line) => line.includes("does not answer yet")));
  await waitFor(async () => (await readyReplicas(head)) === 0);
  expect((await fetch(`${head.url}/v1/service/echo/x`)).status).toBe(503);
  isWell = true;
  await waitFor(async () => (await readyReplicas(head)) === 1);
  expect(await (await fetch(`${head.url}/v1/service/echo/x`)).text()).toBe("x");
  isWell = false;
  await waitFor(async () => (await readyReplicas(head)) === 0, { what: "an unhealthy service" });
  // Nothing was asked that only an engine has.
  const paths = new Set(server.seen.map(({ path }) => path));
  expect([...paths].filter((path) => path.startsWith("/v1/"))).toEqual([]);
});

test("a join token for some models lets only services in that it names", async () => {
  using dir = tempDir();
  using other = tempDir();
  await using server = startEngine(() => new Response("x"));
  await using head = await startTestHead(FAST);
  const token = await head.post("/api/v1/join-tokens", { models: "ec*" });
  const { token: joinToken } = (await token.json()) as { token: string };
  const engine = { attach: `http://127.0.0.1:${server.port}` };
  await using good = await startTestWorker(head, dir.path, { engine, joinToken, service: "echo" });
  await waitFor(async () => (await readyReplicas(head)) === 1);
  await using bad = await startTestWorker(head, other.path, { engine, joinToken, service: "tts" });
  const error = await bad.worker.ended;
  expect(error?.message).toContain("allows only names like ec*, not the service tts");
  expect(good.log.join("")).not.toContain("refuses");
});
