/** Fuzzes our own HTTP client: servers that answer what they like, when they like. */

import { createHttpClient } from "../../src/util/http/client.ts";
import type { Exchange, HttpRequest, Upstream } from "../../src/util/http/exchange.ts";
import { systemCode } from "../../src/protocol/errors.ts";
import { answerBytes } from "./answers.ts";
import { type Fuzzer, must } from "./fuzzer.ts";
import { inPieces, type Random } from "./random.ts";

/** How a request may end that was not answered whole. */
const ENDS = new Set(["EPROTO", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ECONNREFUSED"]);
/** The server has said all: whoever asks is told so at once. */
const SETTLE_MS = 5000;

interface Script {
  pieces: Uint8Array[];
  /** How it ends the connection; a server that leaves it open says nothing more on it. */
  end: "close" | "reset";
}

export const clients: Fuzzer = {
  name: "clients",
  about: "a request to any server ends: answered, or with an error that is known",
  async open() {
    let script: Script = { pieces: [], end: "close" };
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket) {
          for (const piece of script.pieces) socket.write(piece);
          if (script.end === "close") socket.end();
          else socket.terminate();
        },
      },
    });
    const client = createHttpClient({ connectTimeoutMs: 1000, idleMs: 50 });
    return {
      async once(random) {
        const bytes = answerBytes(random);
        const isCut = random.chance(0.3);
        const sent = isCut ? bytes.subarray(0, random.below(bytes.length + 1)) : bytes;
        script = { pieces: inPieces(random, sent), end: random.pick(["close", "reset"]) };
        const asked = ask(client.at(`http://127.0.0.1:${server.port}`), random);
        const late = Bun.sleep(SETTLE_MS).then(() => "late" as const);
        must((await Promise.race([asked, late])) !== "late", "a request without an end", sent);
      },
      async [Symbol.asyncDispose]() {
        client[Symbol.dispose]();
        server.stop(true);
      },
    };
  },
};

/** Settles when the answer is read or has failed as it may. */
function ask(upstream: Upstream, random: Random): Promise<void> {
  const body = random.pick([null, Buffer.from('{"a":1}')]);
  const request: HttpRequest = {
    method: body ? "POST" : "GET",
    path: "/v1/chat/completions",
    host: null,
    fields: "content-type: application/json\r\n",
    body,
    length: null,
    fresh: random.chance(0.5),
  };
  return new Promise((resolve, reject) => {
    const exchange: Exchange = upstream(request, {
      head() {},
      data() {
        if (!random.chance(0.2)) return;
        exchange.pause();
        setImmediate(() => exchange.resume());
      },
      end: resolve,
      fail: (error) => (ENDS.has(systemCode(error) ?? "") ? resolve() : reject(error)),
    });
  });
}
