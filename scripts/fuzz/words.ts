/** Fuzzes the small languages that people, clients and engines write to the head in. */

import { parseAlias } from "../../src/cluster/aliases/text.ts";
import { clientAddress, networkOf, plainAddress } from "../../src/head/access/client-address.ts";
import { readPath } from "../../src/head/http/paths.ts";
import { readWatchWords } from "../../src/head/watch/query.ts";
import { LlmnodeError } from "../../src/protocol/errors.ts";
import { FilterError, parseFilter } from "../../src/protocol/filter.ts";
import { createKeyReader } from "../../src/top/terminal/keys.ts";
import { globMatcher } from "../../src/util/glob.ts";
import { formatHostPort, parseHostPort } from "../../src/util/host-port.ts";
import { maskSecrets } from "../../src/util/mask.ts";
import { cleanLine } from "../../src/util/text.ts";
import { formatTraceparent, parseTraceparent } from "../../src/util/traceparent.ts";
import { mayThrow, must, mustEqual, pure } from "./fuzzer.ts";
import { damaged, inPieces, oddText, type Random } from "./random.ts";

const FILTERS = [
  'state:ready model:qwen|"deep seek" !gpu',
  "kv>=80 tok<1.5k",
  'name="a b" | x',
  "!!a",
  "a:b|c|d",
];
const ALIASES = [
  "fast=Qwen/Qwen3-8B",
  "a=b:30,c%3A1:70",
  'a=b?top_k=1&x.y={"z":[1]},c',
  "a=b?__proto__.x=1",
];
const QUERIES = [
  "view=workers&sort=name&limit=5",
  "view=models&interval=1s&gone=true&filter=a:b",
  "detail=w&offset=1e9",
];
const PATHS = [
  "/v1/service/llm/v1/models?x=1",
  "/v1/p2p/w%2F1/v1/_service/s/a",
  "http://h:1/v1/chat/completions",
  "/%zz",
];
const ADDRESSES = [
  "1.2.3.4",
  "1.2.3.4:5",
  "[::1]:5",
  "2001:db8::1%eth0",
  "::ffff:10.0.0.1",
  "h:8092",
  "[::",
];
const SECRETS = [
  "api_key=abcdef",
  "Authorization: Bearer abc.def",
  "http://me:pw@h/",
  '"password": "x"',
  "hf_abcdefgh",
];
const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const isOurs = (error: unknown) => error instanceof LlmnodeError && error.code !== "internal";

export const words = pure(
  "words",
  "what people and clients write in small is read, or refused in words of ours",
  (random) => {
    checkFilter(random);
    const alias = mayThrow(() => parseAlias(odd(random, ALIASES)), isOurs);
    const weights = alias?.targets.map(({ weight }) => weight) ?? [];
    const sum = weights.reduce<number>((total, weight) => total + (weight ?? 0), 0);
    must(sum === 0 || sum === 100, "weights that are not 100 together", alias);
    mayThrow(() => readWatchWords(new URLSearchParams(odd(random, QUERIES))), isOurs);
    const url = odd(random, PATHS);
    const path = mayThrow(() => readPath(url), isOurs);
    must(path === null || path.pathname.startsWith("/") || path.pathname === "", "a path", url);
    checkAddresses(random);
    const traceparent = random.chance(0.3) ? TRACE : damaged(random, TRACE);
    const trace = parseTraceparent(traceparent);
    const again = trace && parseTraceparent(formatTraceparent(trace));
    mustEqual(again, trace, { what: "a traceparent", input: traceparent });
    checkTexts(random);
  },
);

function odd(random: Random, samples: readonly string[]): string {
  return random.chance(0.8) ? damaged(random, random.pick(samples), samples) : oddText(random, 10);
}

function checkFilter(random: Random): void {
  const text = odd(random, FILTERS);
  const value = random.pick(["ready", "", 5, Number.NaN, true, null, ["a", 1], ["b"]] as const);
  const filter = mayThrow(
    () => parseFilter(text, (field) => field.length < 8),
    (error) => error instanceof FilterError && error.at >= 0 && error.at <= text.length,
  );
  const fields = { get: () => value, text: () => "ready gpu qwen" };
  must(filter === null || typeof filter(fields) === "boolean", "a filter's answer", text);
}

function checkAddresses(random: Random): void {
  const text = odd(random, ADDRESSES);
  const parsed = mayThrow(() => parseHostPort(text, { port: 1 }), isOurs);
  if (parsed) {
    must(Number.isInteger(parsed.port) && parsed.port <= 65_535, "a port", text);
    mustEqual(parseHostPort(formatHostPort(parsed), { port: 1 }), parsed, {
      what: "an address written again",
      input: text,
    });
  }
  networkOf(plainAddress(text));
  const forwarded = cleanLine(text, 200).replaceAll(/[^\x20-\x7e]/g, "");
  // Nobody is trusted: what headers say does not count.
  const address = clientAddress("10.0.0.1", new Headers({ "x-forwarded-for": forwarded }), null);
  must(address === "10.0.0.1", "somebody's word counts", text);
}

function checkTexts(random: Random): void {
  const said = odd(random, SECRETS);
  const line = cleanLine(maskSecrets(said), 100);
  must(!/[\u0000-\u001f\u007f-\u009f]/.test(line) && [...line].length <= 101, "a line", said);
  const pattern = random.several(6, () => random.pick(["a", "b", "*", "ab", "."])).join("");
  const name = random.several(10, () => random.pick(["a", "b", "."])).join("");
  const source = pattern
    .split("*")
    .map((part) => part.replaceAll(".", "\\."))
    .join(".*");
  const wanted = new RegExp(`^${source}$`).test(name);
  must(globMatcher(pattern)(name) === wanted, "a pattern's answer", { pattern, name });
  const bytes = Buffer.from(oddText(random, 12));
  const [whole, cut] = [createKeyReader(), createKeyReader()];
  // Split within an escape, what a terminal sends may be read as its parts; it must only end.
  for (const reader of [whole, cut]) {
    for (const piece of reader === whole ? [bytes] : inPieces(random, bytes)) reader.read(piece);
    must(
      reader.flush().every(({ key }) => typeof key === "string"),
      "a key",
      bytes,
    );
  }
}
