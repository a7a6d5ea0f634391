/** Fuzzes our own HTTP client: servers that answer what they like, when they like. */

import { createHttpClient } from "../../src/util/http/client.ts";
import type { Exchange, HttpRequest, Upstream } from "../../src/util/http/exchange.ts";
import { systemCode } from "../../src/protocol/errors.ts";
import { answerBytes, soundAnswer } from "./answers.ts";
import { type Fuzzer, must } from "./fuzzer.ts";
import { inPieces, type Random } from "./random.ts";

/** How a request may end that was not answered whole. */
const ENDS = new Set(["EPROTO", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ECONNREFUSED"]);
/** The server has said all: whoever asks is told so at once. */
const SETTLE_MS = 5000;
/** Longer answers are not written in pieces of a few bytes: that takes seconds. */
const LONG_BYTES = 5000;
/** In the field of sound answers that says whose they are. */
const OWNER = "x-owner";

/** What the server does with one request. */
interface Script {
  pieces: Uint8Array[];
  /** How it ends the connection; one that it leaves open carries the next request. */
  end: "close" | "reset" | "open";
  /** Whether it reads the request's body first. */
  isPatient: boolean;
  /** What must come of it; null: any end. */
  wanted: { status: number; body: string } | null;
  /** How often it was asked. */
  asked: number;
}

interface Told {
  status: number;
  owner: string | null;
  body: string;
  /** Null: it was aborted. */
  end: "whole" | "failed" | null;
}

export const clients: Fuzzer = {
  name: "clients",
  about: "a request to any server ends: with the answer that is its own, or an error that is known",
  async open() {
    const scripts = new Map<string, Script>();
    const server = openServer(scripts);
    const client = createHttpClient({ connectTimeoutMs: 1000, idleMs: 50 });
    let last = 0;
    const ask = async (random: Random) => {
      const path = `/r${(last += 1)}`;
      const request = someRequest(random, path);
      const script = someScript(random, request);
      scripts.set(path, script);
      const upstream = client.at(`http://127.0.0.1:${server.port}`);
      const told = await Promise.race([send(upstream, request, random), Bun.sleep(SETTLE_MS)]);
      scripts.delete(path);
      const input = Buffer.concat(script.pieces);
      must(told !== undefined, "a request without an end", input);
      const isStream = request.body instanceof ReadableStream;
      must(script.asked <= (request.fresh || isStream ? 1 : 2), "asked again and again", input);
      if (told.end !== "whole" && (told.end === null || script.wanted === null)) return;
      // A stream is gone where a kept connection breaks under it.
      if (told.end === "failed" && isStream && !request.fresh) return;
      if (script.wanted === null) return;
      const { status, body } = script.wanted;
      must(told.end === "whole", "a sound answer that is refused", input);
      must(told.owner === path, `an answer to ${path} that is another's`, input);
      must(told.status === status && told.body === body, "another answer than was sent", input);
    };
    return {
      async once(random) {
        for (let turn = 1 + random.below(3); turn > 0; turn -= 1) {
          await Promise.all([ask(random), ...random.several(3, () => ask(random))]);
        }
      },
      async [Symbol.asyncDispose]() {
        client[Symbol.dispose]();
        server.stop(true);
      },
    };
  },
};

function openServer(scripts: ReadonlyMap<string, Script>) {
  return Bun.listen<{ text: string }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { text: "" };
      },
      data(socket, data) {
        socket.data.text += data.toString("latin1");
        const { text } = socket.data;
        const script = scripts.get(text.split(" ", 2)[1] ?? "");
        if (script === undefined) {
          socket.data.text = "";
          return;
        }
        if (!isWhole(text, script.isPatient)) return;
        socket.data.text = "";
        script.asked += 1;
        for (const piece of script.pieces) socket.write(piece);
        if (script.end === "close") socket.end();
        else if (script.end === "reset") socket.terminate();
      },
    },
  });
}

/** Whether all of a request is there, or its head. */
function isWhole(text: string, withBody: boolean): boolean {
  const end = text.indexOf("\r\n\r\n");
  if (end === -1 || !withBody) return end !== -1;
  const length = /\r\ncontent-length: (\d+)\r\n/.exec(text)?.[1];
  if (length !== undefined) return text.length >= end + 4 + Number(length);
  return !text.includes("\r\ntransfer-encoding: chunked\r\n") || text.endsWith("\r\n0\r\n\r\n");
}

function someRequest(random: Random, path: string): HttpRequest {
  const bytes = Buffer.alloc(random.pick([0, 1, 10, 3000, 200_000]), "a");
  const kind = random.below(4);
  const stream = () =>
    new ReadableStream<Uint8Array>({
      async start(controller) {
        for (const piece of inPieces(random, bytes.subarray(0, 3000))) controller.enqueue(piece);
        if (random.chance(0.5)) await Bun.sleep(0);
        controller.close();
      },
    });
  return {
    method: kind === 0 ? random.pick(["GET", "HEAD"]) : "POST",
    path,
    host: null,
    fields: random.pick(["", "content-type: application/json\r\n"]),
    body: kind === 0 ? null : kind < 3 ? bytes : stream(),
    length: random.chance(0.5) ? null : Math.min(3000, bytes.length),
    fresh: random.chance(0.2),
  };
}

function someScript(random: Random, { method, path }: HttpRequest): Script {
  const asked = 0;
  const kind = random.below(10);
  if (kind < 5) {
    const answer = soundAnswer(random, method, [[OWNER, path]]);
    const { status, bytes, closes } = answer;
    // What is not asked for comes with the last of it, so that it is there when that is read.
    const more =
      random.chance(0.3) && !closes ? soundAnswer(random, method, [[OWNER, "/no"]]) : null;
    const last = bytes.length - 1;
    const pieces = [
      ...inPieces(random, bytes.subarray(0, last)),
      Buffer.concat([bytes.subarray(last), more?.bytes ?? Buffer.alloc(0)]),
    ];
    const wanted = { status, body: answer.body.toString("latin1") };
    return { pieces, end: closes ? "close" : "open", isPatient: true, wanted, asked };
  }
  const end = random.pick(["close", "reset"] as const);
  const isPatient = random.chance(0.5);
  const bytes = kind === 5 ? oversized(random) : answerBytes(random);
  // Nothing at all, too: a kept connection that breaks then is replaced.
  const cut = random.chance(0.3) ? bytes.subarray(0, random.below(bytes.length + 1)) : bytes;
  const isLong = cut.length > LONG_BYTES;
  const pieces = kind === 6 ? [] : isLong ? [cut] : inPieces(random, cut);
  return { pieces, end, isPatient, wanted: null, asked };
}

/** More than is read of a head, a line of the framing, or a trailer. */
function oversized(random: Random): Buffer {
  const start = "HTTP/1.1 200 OK\r\n";
  const chunks = `${start}transfer-encoding: chunked\r\n\r\n`;
  return Buffer.from(
    random.pick([
      () => `${start}a: ${"b".repeat(100_000)}\r\n\r\n`,
      () => `${start}${"a: b\r\n".repeat(20_000)}\r\n`,
      () => "HTTP/1.1 103 Early\r\nlink: x\r\n\r\n".repeat(3000),
      () => `${chunks}1;${"a".repeat(20_000)}\r\nb\r\n0\r\n\r\n`,
      () => `${chunks}0\r\n${"a: b\r\n".repeat(20_000)}\r\n`,
      () => `${chunks}1000000000000000\r\nabc`,
      () => `${start}content-length: 999999999999999\r\n\r\nabc`,
    ])(),
  );
}

/** Settles with the end; rejects where the calls are not in order, or the error is none that may be. */
function send(upstream: Upstream, request: HttpRequest, random: Random): Promise<Told> {
  const told: Told = { status: 0, owner: null, body: "", end: null };
  return new Promise((resolve, reject) => {
    let exchange: Exchange | null = null;
    let isOver = false;
    const call = (name: string, isFirst: boolean) => {
      if (exchange === null) reject(new Error(`${name} within the call that sends`));
      if (isOver) reject(new Error(`${name} after the end`));
      if (isFirst !== (told.status === 0) && name !== "fail")
        reject(new Error(`${name} out of turn`));
    };
    const leave = () => {
      isOver = true;
      resolve(told);
    };
    const maybeAbort = () => {
      if (!random.chance(0.03)) return;
      exchange?.abort();
      leave();
    };
    exchange = upstream(request, {
      head({ status, fields }) {
        call("head", true);
        told.status = status;
        told.owner = fields.find(([name]) => name === OWNER)?.[1] ?? null;
        maybeAbort();
      },
      data(bytes) {
        call("data", false);
        told.body += Buffer.from(bytes).toString("latin1");
        maybeAbort();
        if (isOver || random.chance(0.8)) return;
        exchange?.pause();
        setImmediate(() => exchange?.resume());
      },
      end() {
        call("end", false);
        told.end = "whole";
        leave();
      },
      fail(error) {
        call("fail", false);
        told.end = "failed";
        if (!ENDS.has(systemCode(error) ?? "")) reject(error);
        leave();
      },
    });
    // Before there is an answer.
    if (random.chance(0.3)) setImmediate(() => isOver || maybeAbort());
  });
}
