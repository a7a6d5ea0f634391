import { expect, test } from "bun:test";
import { soundAnswer, type SoundAnswer } from "../../../scripts/fuzz/answers.ts";
import { createRandom, inPieces } from "../../../scripts/fuzz/random.ts";
import { createHttpClient } from "../../../src/util/http/client.ts";
import { ask } from "./peer.ts";

const ROUNDS = 3000;
const AT_ONCE = 16;
const OWN_READS = 3;
/** Of the connection, and what a trailer or an announcement may not add. */
const COMPARED = [
  "content-type",
  "x-a",
  "set-cookie",
  "server",
  "x_!#$%&'*+.^`|~",
  "content-length",
];
const LEFT_OUT = ["x-t", "x-u", "link"];

/** Gives each request the answer that its path names, in pieces. */
function serveAnswers(answers: Map<string, { answer: SoundAnswer; pieces: Uint8Array[] }>) {
  return Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      async data(socket, data) {
        const found = answers.get(data.toString("latin1").split(" ")[1] ?? "");
        if (found === undefined) return;
        // A read of its own for each of the first; the others come together.
        const { pieces } = found;
        for (const piece of pieces.slice(0, OWN_READS)) {
          socket.write(piece);
          await new Promise(setImmediate);
        }
        socket.write(Buffer.concat(pieces.slice(OWN_READS)));
        if (found.answer.closes) socket.end();
      },
    },
  });
}

test("well-formed answers mean to this client what they mean to fetch", async () => {
  const answers = new Map<string, { answer: SoundAnswer; pieces: Uint8Array[] }>();
  const server = serveAnswers(answers);
  using client = createHttpClient();
  const base = `http://127.0.0.1:${server.port}`;
  const compare = async (seed: number) => {
    const random = createRandom(seed);
    const method = random.pick(["GET", "POST", "HEAD"]);
    const answer = soundAnswer(random, method);
    const path = `/${seed}`;
    answers.set(path, { answer, pieces: inPieces(random, answer.bytes) });
    const init = { method, decompress: false, redirect: "manual" as const };
    const [own, theirs] = await Promise.all([
      ask(client.at(base), { method, path }).over,
      fetch(`${base}${path}`, init).then(async (response) => ({
        status: response.status,
        headers: response.headers,
        body: Buffer.from(await response.arrayBuffer()).toString("latin1"),
      })),
    ]);
    answers.delete(path);
    const fields = own.head?.fields ?? [];
    const joined = (name: string) => {
      const values = fields.filter(([spelled]) => spelled === name).map(([, value]) => value);
      return values.length === 0 ? null : values.join(name === "set-cookie" ? "; " : ", ");
    };
    const seen = { status: own.head?.status, body: own.body, end: own.end };
    expect({ seed, ...seen }).toEqual({
      seed,
      status: theirs.status,
      body: theirs.body,
      end: "end",
    });
    expect(own.body).toBe(answer.body.toString("latin1"));
    const values = (of: (name: string) => string | null) =>
      COMPARED.map((name) => [seed, name, of(name) ?? ""]);
    const other = (name: string) =>
      name === "set-cookie" ? theirs.headers.getSetCookie().join("; ") : theirs.headers.get(name);
    expect(values(joined)).toEqual(values(other));
    for (const name of LEFT_OUT) expect(joined(name)).toBeNull();
  };
  try {
    for (let seed = 0; seed < ROUNDS; seed += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, (_, at) => compare(seed + at)));
    }
  } finally {
    server.stop(true);
  }
}, 60_000);
