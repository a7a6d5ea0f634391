/** Fuzzes the search for a model in a form. */

import { boundaryOf, createFormScanner, type FormScan } from "../../src/proxy/request/multipart.ts";
import { must, mustEqual, pure } from "./fuzzer.ts";
import { damagedBytes, inPieces, oddText, type Random } from "./random.ts";

export const forms = pure(
  "forms",
  "the model of a form is found in any split, and where it is a form's parser finds it",
  async (random) => {
    const boundary = random.pick(["b", "----WebKitFormBoundaryAAAA", "a-b--c", "x".repeat(70)]);
    const type = `multipart/form-data; boundary=${boundary}`;
    must(boundaryOf(type) === boundary, "the boundary", type);
    boundaryOf(oddText(random, 20));
    const sound = formOf(random, boundary);
    const bytes = random.chance(0.6) ? sound : damagedBytes(random, sound);
    const whole = scanned([bytes], boundary);
    const cut = scanned(inPieces(random, bytes), boundary);
    mustEqual(cut, whole, { what: "a form in pieces", input: bytes });
    if (bytes !== sound) return;
    const parsed = await new Response(sound, { headers: { "content-type": type } }).formData();
    const model = parsed.getAll("model").find((value) => typeof value === "string") ?? null;
    const found = whole.last.state === "found" ? whole.last.model : null;
    mustEqual(found, model, { what: "the model of a form", input: bytes });
  },
);

function formOf(random: Random, boundary: string): Buffer {
  const parts = random.several(4, () => {
    const name = random.pick(["model", "file", "prompt", "models", "mode"]);
    const file = name === "file" ? '; filename="model.wav"' : "";
    const more = random.chance(0.3) ? "\r\nContent-Type: text/plain" : "";
    const value = oddText(random)
      .replaceAll(`--${boundary}`, "")
      .replaceAll(/[\ud800\ufeff]/g, "")
      .replaceAll("\r\n--", "");
    const near = random.chance(0.2) ? `\r\n-${boundary.slice(1)}` : "";
    return `--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}${more}\r\n\r\n${value}${near}\r\n`;
  });
  return Buffer.from(`${parts.join("")}--${boundary}--\r\n`);
}

function scanned(pieces: readonly Uint8Array[], boundary: string) {
  const scanner = createFormScanner(boundary);
  let held = Buffer.alloc(0);
  let last: FormScan = { state: "more" };
  for (const piece of pieces) {
    held = Buffer.concat([held, piece]);
    last = scanner.scan(held);
    if (last.state !== "more") break;
  }
  const span = scanner.modelSpan;
  if (span && last.state === "found") {
    must(held.toString("utf8", span.start, span.end) === last.model, "the model's place", held);
  }
  return { last, span };
}
