import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";
import net from "node:net";
import { BREAKER_LIMITS } from "../../../src/cluster/faults/breaker.ts";
import type { HeadSettings } from "../../../src/head/options.ts";
import {
  FAST,
  type FakeWorker,
  fakeWorker,
  startTestHead,
  type TestHead,
} from "../../helpers/cluster.ts";
import { laneWorker } from "../../helpers/lanes.ts";
import { waitFor } from "../../helpers/wait.ts";

const WAYS = ["direct", "lane"] as const;
type Way = (typeof WAYS)[number];

interface Served extends AsyncDisposable {
  port: number;
  seen: { method: string; url: string; headers: http.IncomingHttpHeaders }[];
  gone: number;
}

/** A plain HTTP server, which knows nothing of models. */
async function serve(answer: http.RequestListener): Promise<Served> {
  const served = { seen: [] as Served["seen"], gone: 0 };
  const server = http.createServer((request, response) => {
    const { method = "", url = "", headers } = request;
    served.seen.push({ method, url, headers });
    response.on("close", () => {
      if (!response.writableFinished) served.gone += 1;
    });
    answer(request, response);
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  return Object.assign(served, {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

interface Offered {
  way: Way;
  ports: readonly number[];
  settings?: Partial<HeadSettings>;
}

/** A head with a worker for each port, all with the service `tts`. */
async function offer({ way, ports, settings = {} }: Offered) {
  await using stack = new AsyncDisposableStack();
  const head = stack.use(await startTestHead({ ...FAST, ...settings }));
  const workers: FakeWorker[] = [];
  for (const port of ports) workers.push(stack.use(await offerOne(head, { way, port })));
  await replicas(head, ports.length);
  const rest = stack.move();
  return {
    ...head,
    workers,
    base: `${head.url}/v1/service/tts`,
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

async function offerOne(head: TestHead, { way, port }: { way: Way; port: number }) {
  const options = { port, models: [] };
  const worker =
    way === "lane" ? await laneWorker(head, options) : fakeWorker(head, { ...options });
  worker.report({ service: "tts", kind: "generic", port });
  return worker;
}

async function services(head: Pick<TestHead, "status">) {
  return ((await head.status()) as unknown as { services: Service[] }).services;
}

interface Service {
  name: string;
  ready: number;
  replicas: number;
  in_flight: number;
}

async function replicas(head: TestHead, count: number): Promise<void> {
  await waitFor(async () => (await services(head))[0]?.ready === count, { what: "the service" });
}

/** Bytes on a connection of one's own, until it closes or `until` has come. */
function raw(port: number, text: string, until: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = "";
    const socket = net.connect(port, "127.0.0.1", () => socket.write(text));
    socket.on("data", (data) => {
      got += data.toString("latin1");
      if (until.test(got)) socket.destroy();
    });
    socket.on("close", () => resolve(got));
    socket.on("error", reject);
  });
}

const portOf = (url: string) => Number(new URL(url).port);

for (const way of WAYS) {
  test(`${way}: method, path, query, body, status and headers cross untouched`, async () => {
    await using service = await serve((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        response.writeHead(418, "Teapot", {
          "content-type": "x/y",
          "set-cookie": ["a=1", "b=2"],
          "x-of-service": "yes",
          "x-llmnode-worker": "forged",
          etag: '"e"',
        });
        response.end(Buffer.concat(chunks));
      });
    });
    await using head = await offer({ way, ports: [service.port] });
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
      const body = method === "GET" ? null : Buffer.from([0, 255, 10, 13, 0]);
      const answer = await fetch(`${head.base}/v1/models/a%2Fb//c?q=1&q=%20`, {
        method,
        body,
        headers: {
          authorization: "Bearer of the service",
          cookie: "c=d",
          "x-own": "1",
          "x-llmnode-secret": "no",
          connection: "x-hop",
          "x-hop": "gone",
        },
      });
      expect(answer.status).toBe(418);
      expect(answer.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
      expect(answer.headers.get("content-type")).toBe("x/y");
      expect(answer.headers.get("x-of-service")).toBe("yes");
      expect(answer.headers.get("x-llmnode-worker")).toBe(head.workers[0]?.id ?? "");
      expect(new Uint8Array(await answer.arrayBuffer())).toEqual(new Uint8Array(body ?? []));
      const seen = service.seen.at(-1);
      expect(seen).toMatchObject({ method, url: "/v1/models/a%2Fb//c?q=1&q=%20" });
      expect(seen?.headers).toMatchObject({
        authorization: "Bearer of the service",
        cookie: "c=d",
        "x-own": "1",
      });
      expect(seen?.headers["x-llmnode-secret"]).toBeUndefined();
    }
    expect((await services(head))[0]).toMatchObject({ name: "tts", ready: 1, in_flight: 0 });
  });

  test(`${way}: HEAD, 204, 304 and redirects are passed on as they are`, async () => {
    await using service = await serve((request, response) => {
      if (request.method === "HEAD") response.writeHead(200, { "content-length": 1234 });
      else if (request.url === "/204") response.writeHead(204);
      else if (request.url === "/304") response.writeHead(304, { etag: '"x"' });
      else response.writeHead(307, { location: "/elsewhere" });
      response.end();
    });
    await using head = await offer({ way, ports: [service.port] });
    const looked = await raw(
      portOf(head.url),
      "HEAD /v1/service/tts/x HTTP/1.1\r\nhost: h\r\n\r\n",
      /\r\n\r\n/,
    );
    expect(looked).toMatch(/^HTTP\/1.1 200 [^]*content-length: 1234\r\n/i);
    expect((await fetch(`${head.base}/204`)).status).toBe(204);
    const same = await fetch(`${head.base}/304`);
    expect([same.status, same.headers.get("etag")]).toEqual([304, '"x"']);
    const moved = await fetch(`${head.base}/307`, { redirect: "manual" });
    expect([moved.status, moved.headers.get("location")]).toEqual([307, "/elsewhere"]);
    expect((await fetch(head.base, { redirect: "manual" })).status).toBe(307);
    expect(service.seen.at(-1)?.url).toBe("/");
  });

  test(`${way}: 100 MB each way, of known and unknown length, without being held`, async () => {
    const piece = Buffer.alloc(1024 * 1024, "0123456789abcdef");
    const expected = createHash("sha256");
    for (let i = 0; i < 100; i += 1) expected.update(piece);
    const digest = expected.digest("hex");
    await using service = await serve((request, response) => {
      const hash = createHash("sha256");
      request.on("data", (chunk: Buffer) => hash.update(chunk));
      request.on("end", () => {
        response.writeHead(200, { "x-digest": hash.digest("hex") });
        let left = 100;
        const more = () => {
          while (left > 0) {
            left -= 1;
            if (!response.write(piece)) return void response.once("drain", more);
          }
          response.end();
        };
        more();
      });
    });
    const settings = { maxHeldBytes: 1024, maxBodyBytes: 1024 };
    await using head = await offer({ way, ports: [service.port], settings });
    for (const length of [undefined, String(100 * piece.length)]) {
      let left = 100;
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          if (left === 0) return controller.close();
          left -= 1;
          controller.enqueue(piece);
        },
      });
      const answer = await fetch(`${head.base}/up`, {
        method: "POST",
        body,
        headers: length === undefined ? {} : { "content-length": length },
      });
      expect(answer.headers.get("x-digest")).toBe(digest);
      expect(service.seen.at(-1)?.headers["content-length"]).toBe(length);
      const got = createHash("sha256");
      for await (const chunk of answer.body ?? []) got.update(chunk);
      expect(got.digest("hex")).toBe(digest);
    }
  });

  test(`${way}: an event stream comes piece by piece, as it is sent`, async () => {
    const next = Promise.withResolvers<http.ServerResponse>();
    await using service = await serve((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream", trailer: "x-end" });
      response.write("data: 1\n\n");
      next.resolve(response);
    });
    await using head = await offer({ way, ports: [service.port] });
    const answer = await fetch(`${head.base}/events`);
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    const sender = await next.promise;
    const reader = answer.body?.getReader();
    for (const text of ["data: 1\n\n", "half ", "frame"]) {
      if (text !== "data: 1\n\n") sender.write(text);
      const { value } = (await reader?.read()) ?? {};
      expect(Buffer.from(value ?? []).toString()).toBe(text);
    }
    sender.addTrailers({ "x-end": "1" });
    sender.end();
    expect((await reader?.read())?.done).toBe(true);
  });

  test(`${way}: the service sees a client leave, before the answer and within it`, async () => {
    await using service = await serve((request, response) => {
      if (request.url === "/answer") response.write("begun");
    });
    await using head = await offer({ way, ports: [service.port] });
    for (const [index, path] of ["/silent", "/answer"].entries()) {
      const leaving = new AbortController();
      const asked = fetch(head.base + path, { signal: leaving.signal }).then(
        (answer) => answer.body?.getReader().read(),
        () => null,
      );
      await waitFor(() => service.seen.length === index + 1);
      if (path === "/answer") await asked;
      leaving.abort();
      await waitFor(() => service.gone === index + 1, { what: "the client's end" });
    }
    await waitFor(async () => (await services(head))[0]?.in_flight === 0);
  });

  test(`${way}: a replica that dies before it answers: GET goes elsewhere, POST does not`, async () => {
    await using broken = await serve((request) => {
      request.resume();
      request.on("end", () => request.socket.destroy());
    });
    await using good = await serve((request, response) => {
      request.resume();
      request.on("end", () => response.end("good"));
    });
    // However often it breaks, it is to be asked again.
    const breaker = { ...BREAKER_LIMITS, failures: 1000, windowAnswers: 1000 };
    const settings = { cluster: { ...FAST.cluster, breaker } };
    await using head = await offer({ way, ports: [broken.port, good.port], settings });
    let hits = 0;
    while (hits < 3) {
      const before = broken.seen.length;
      const answer = await fetch(`${head.base}/x`);
      expect([answer.status, await answer.text()]).toEqual([200, "good"]);
      if (broken.seen.length > before) {
        expect(answer.headers.get("x-llmnode-attempts")).toBe("2");
        hits += 1;
      }
    }
    for (const method of ["POST", "PATCH"]) {
      for (let lost = 0; lost < 3;) {
        const [beforeBroken, beforeGood] = [broken.seen.length, good.seen.length];
        const answer = await fetch(`${head.base}/x`, { method, body: "once" });
        const reached = [broken.seen.length - beforeBroken, good.seen.length - beforeGood];
        if (answer.status === 502) {
          lost += 1;
          expect(reached).toEqual([1, 0]);
          const { error } = (await answer.json()) as { error: { code: string } };
          expect(error.code).toBe("upstream_unreachable");
        } else {
          expect([answer.status, reached]).toEqual([200, [0, 1]]);
        }
      }
    }
  });

  test(`${way}: a refused connection has carried nothing, so that POST goes elsewhere too`, async () => {
    const dead = await serve((_, response) => void response.end());
    await using good = await serve((request, response) => void request.pipe(response));
    await using head = await offer({ way, ports: [dead.port, good.port] });
    await dead[Symbol.asyncDispose]();
    const large = Buffer.alloc(3 * 1024 * 1024, "x");
    // The refusal takes the replica out of the routing: the first to meet it tells.
    // By lane the body is on its way while the worker still dials.
    for (const body of way === "lane" ? ["small"] : ["small", large]) {
      const answers = await Promise.all(
        [1, 2, 3].map(() => fetch(`${head.base}/x`, { method: "POST", body })),
      );
      for (const answer of answers) {
        expect(answer.status).toBe(200);
        expect((await answer.arrayBuffer()).byteLength).toBe(body.length);
      }
    }
  });

  test(`${way}: an answer that breaks off ends as a broken connection`, async () => {
    await using service = await serve((request, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write("part", () => request.socket.destroy());
    });
    await using head = await offer({ way, ports: [service.port] });
    const outcome = await fetch(`${head.base}/x`)
      .then((answer) => answer.text())
      .then(
        (text) => `whole: ${text}`,
        () => "broken",
      );
    expect(outcome).toBe("broken");
  });
}

test("what is no service: names that nobody has, escapes, upgrades, methods", async () => {
  await using service = await serve((_, response) => void response.end("x"));
  await using head = await offer({
    way: "direct",
    ports: [service.port],
    settings: { cluster: { ...FAST.cluster, settleMs: 0 } },
  });
  const cases: [request: string, status: number, says: RegExp][] = [
    ["GET /v1/service/asr/x", 404, /no service "asr"; available services: tts/i],
    ["GET /v1/service/%74ts/x", 404, /no service/],
    ["GET /v1/service/tts%2fx", 404, /no service/],
    ["GET /v1/service/TTS/x", 404, /no service/],
    ["GET /v1/service//x", 404, /no service/],
    ["GET /v1/service/tts//x", 400, /are not allowed/],
    ["GET /v1/service/tts/a%00b", 400, /are not allowed/],
    ["TRACE /v1/service/tts/x", 405, /TRACE/],
    ["GET /v1/p2p/nobody/v1/_service/tts/x", 404, /nobody/],
  ];
  for (const [line, status, says] of cases) {
    const text = `${line} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n`;
    const answer = await raw(portOf(head.url), text, /\}\}$/);
    expect([line, answer.slice(9, 12)]).toEqual([line, String(status)]);
    expect(answer.replaceAll("\\", "")).toMatch(says);
  }
  const upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
  const socket = `GET /v1/service/tts/ws HTTP/1.1\r\nhost: h\r\n${upgrade}\r\n`;
  expect(await raw(portOf(head.url), socket, /\}\}$/)).toMatch(/^HTTP\/1.1 501 [^]*WebSocket/);
  // Where `..` leads out, it is another path of the head and nothing of the service.
  const out = "GET /v1/service/tts/../../../health/live HTTP/1.1\r\nhost: h\r\n\r\n";
  expect(await raw(portOf(head.url), out, /\}$/)).toContain('{"status":"live"}');
  expect(service.seen).toEqual([]);
  const pinned = `${head.url}/v1/p2p/${head.workers[0]?.id}/v1/_service/tts/y?z`;
  expect(await (await fetch(pinned)).text()).toBe("x");
  expect(service.seen[0]?.url).toBe("/y?z");
});

test("a service is no model, and a model no service; one that starts says so", async () => {
  await using service = await serve((_, response) => void response.end("x"));
  await using head = await offer({ way: "direct", ports: [service.port] });
  const [worker] = head.workers;
  worker?.models("secret-model");
  worker?.report({
    service: "tts",
    kind: "generic",
    port: service.port,
    state: "STARTING",
    phase: "load",
  });
  await waitFor(async () => (await services(head))[0]?.ready === 0);
  const refused = await fetch(`${head.base}/x`);
  expect(refused.status).toBe(503);
  expect(await refused.text()).toContain("starting (load)");
  const { models, workers } = await head.status();
  expect(models).toEqual([]);
  expect(workers[0]?.engines[0]).toMatchObject({
    replicas: [{ name: "tts", state: "starting", in_flight: 0 }],
    service: "tts",
  });
  const list = (await (await fetch(`${head.url}/v1/models`)).json()) as { data: unknown[] };
  expect(list.data).toEqual([]);
});

test("replicas share the requests, the least busy first", async () => {
  const open: http.ServerResponse[] = [];
  const hold: http.RequestListener = (_, response) => void open.push(response);
  await using one = await serve(hold);
  await using two = await serve(hold);
  await using head = await offer({ way: "direct", ports: [one.port, two.port] });
  const asked: Promise<Response>[] = [];
  for (let i = 1; i <= 6; i += 1) {
    asked.push(fetch(`${head.base}/x`));
    await waitFor(() => open.length === i);
  }
  expect([one.seen.length, two.seen.length]).toEqual([3, 3]);
  for (const response of open) response.end("done");
  for (const answer of await Promise.all(asked)) expect(await answer.text()).toBe("done");
});

test("requests to services are counted by service, and unknown names are not", async () => {
  await using service = await serve((_, response) => void response.end("x"));
  await using head = await offer({ way: "direct", ports: [service.port] });
  await (await fetch(`${head.base}/x`)).text();
  await (await fetch(`${head.url}/v1/service/unknown-name/x`)).text();
  const text = await waitFor(async () => {
    const metrics = await (await fetch(`${head.url}/metrics`)).text();
    return metrics.includes('status="503"') || metrics.includes('status="404"') ? metrics : null;
  });
  expect(text).toContain('route="/v1/service/*",model="tts",status="200"');
  expect(text).toContain('model="unresolved"');
  expect(text).not.toContain("unknown-name");
});
