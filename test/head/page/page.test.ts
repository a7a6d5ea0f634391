import { expect, test } from "bun:test";
import { PAGE_POLICY, pageHtml, pageText } from "../../../src/head/page/page.ts";
import { SCRIPT } from "../../../src/head/page/script.ts";
import type { WatchFrame } from "../../../src/protocol/watch-json.ts";
import { cluster, events, frame, model, worker } from "../../top/sample.ts";

const FACTS = { apiUrl: "http://10.0.0.5:8092", version: "0.1.0" };
const EVIL = `<script>alert(1)</script>"'&\u001b[2J\u202e`;

function evil(): WatchFrame {
  return frame(
    {
      workers: [
        worker(EVIL, { state_detail: EVIL, models: [{ name: EVIL, engines: 2 }], address: EVIL }),
      ],
      models: [model(EVIL, { alias_of: EVIL })],
      requests: [],
      events: events().map((event) => ({ ...event, worker: EVIL, text: EVIL })),
    },
    { attention: [{ worker: EVIL, model: null, text: EVIL }] },
  );
}

test("what comes from outside is text, in the page as on a terminal", () => {
  const html = pageHtml({ ...FACTS, frame: evil() });
  expect(html).not.toContain("<script>alert");
  expect(html).toContain("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;");
  const text = pageText({ ...FACTS, frame: evil() });
  for (const page of [html, text]) {
    // oxlint-disable-next-line no-control-regex
    expect(page.replaceAll("\n", "")).not.toMatch(/[\u0000-\u001f\u007f\u202e]/);
  }
});

test("nothing is loaded from anywhere, and the policy allows just what is in the page", () => {
  const html = pageHtml({ ...FACTS, frame: frame(cluster()) });
  expect(html).not.toMatch(/\son[a-z]+=|\ssrc=|javascript:|<link|style="/);
  expect(html.match(/<script>/g)?.length).toBe(1);
  expect(PAGE_POLICY).toContain("default-src 'none'");
  expect(PAGE_POLICY).toMatch(/script-src 'sha256-[\w+/]{43}='/);
  // No markup is ever made from text.
  expect(SCRIPT).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/);
  expect(html.length).toBeLessThan(40_000);
});

test("the page, the text and the frame count the same", () => {
  const one = frame(cluster());
  const html = pageHtml({ ...FACTS, frame: one });
  const text = pageText({ ...FACTS, frame: one });
  const { workers, models } = one.totals;
  expect(html).toContain(`<b>${workers.ready} of ${workers.total}</b>`);
  expect(text).toContain(
    `workers ${workers.ready}/${workers.total} ready   models ${models.ready}/${models.total} ready`,
  );
  for (const name of ["gpu-09", "gpu-01", "Qwen/Qwen3-8B"]) {
    expect(html).toContain(name);
    expect(text).toContain(name);
  }
  expect(html.match(/<tr><th scope="row">/g)?.length).toBe(9 + 6);
  expect(text).toContain("gpu-09   lost 42s");
});

test("an empty cluster says how to begin", () => {
  const none = frame({ workers: [], models: [], requests: [], events: [] });
  const html = pageHtml({ ...FACTS, frame: none });
  expect(html).toContain('<div id="empty">');
  expect(html).toContain('<div id="tables" hidden>');
  expect(html).toContain("llmnode join 10.0.0.5 -- vllm serve");
});
