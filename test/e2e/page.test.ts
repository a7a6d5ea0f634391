import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../helpers/cluster.ts";
import { waitFor } from "../helpers/wait.ts";

setDefaultTimeout(60_000);

const PROGRAM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  (path) => existsSync(path),
);
// In CI it is installed, and missing it is a failure.
const hasBrowser = PROGRAM !== undefined || process.env["CI"] === "true";
if (!hasBrowser) process.stderr.write("page: no Chromium here, its tests are skipped\n");

let browser: Browser | null = null;

beforeAll(async () => {
  if (!hasBrowser) return;
  browser = await chromium.launch({
    executablePath: PROGRAM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
}, 60_000);
afterAll(async () => await browser?.close());

interface Opened extends AsyncDisposable {
  page: Page;
  /** What the browser complained about. */
  errors: string[];
}

async function openPage(
  url: string,
  options: { dark?: boolean; width?: number } = {},
): Promise<Opened> {
  if (!browser) throw new Error("no browser");
  const context = await browser.newContext({
    colorScheme: options.dark === true ? "dark" : "light",
    viewport: { width: options.width ?? 1200, height: 800 },
  });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !/ERR_CONNECTION|ERR_INCOMPLETE/.test(message.text()))
      errors.push(message.text());
  });
  page.on("pageerror", (error) => void errors.push(String(error)));
  await page.goto(url);
  return { page, errors, [Symbol.asyncDispose]: () => context.close() };
}

function worker(head: TestHead, name: string, models: string[]) {
  return fakeWorker(head, { hello: { workerId: `worker-${name}`, name }, models });
}

const cells = (page: Page, table: string) => page.locator(`#${table} tbody tr th`).allInnerTexts();

test.skipIf(!hasBrowser)("it is live, sorts, and shows names as text", async () => {
  await using head = await startTestHead(FAST);
  await using opened = await openPage(head.url);
  const { page, errors } = opened;
  await page.getByText("No workers have joined yet").waitFor();
  expect(await page.locator("#tables").isHidden()).toBe(true);

  const evil = "<img src=x onerror=alert(1)>";
  await using a = worker(head, "gpu-b", ["Qwen/Qwen3-8B"]);
  await using b = worker(head, "gpu-a", [evil]);
  a.report({ state: "READY", port: 1 });
  b.report({ state: "STARTING", phase: "load 40%", expectedModels: [evil] });
  await waitFor(async () => (await cells(page, "workers")).length === 2, { what: "both workers" });
  expect(await page.locator("#tables").isVisible()).toBe(true);
  expect(await page.locator("#workers").innerText()).toContain("starting load 40%");
  expect(await page.locator("#models").innerText()).toContain(evil);
  expect(await page.locator("img").count()).toBe(0);

  // What needs a person comes first, until somebody sorts.
  await page.getByRole("button", { name: "Worker" }).click();
  expect(await cells(page, "workers")).toEqual(["gpu-a", "gpu-b"]);
  await page.getByRole("button", { name: "Worker" }).click();
  expect(await cells(page, "workers")).toEqual(["gpu-b", "gpu-a"]);
  expect(await page.locator("#workers th[aria-sort=descending]").count()).toBe(1);

  a.drop();
  await waitFor(async () => /lost/.test(await page.title()), {
    what: "the lost worker",
    timeoutMs: 20_000,
  });
  expect(await page.locator("#workers").innerText()).toContain("lost");
  expect(errors).toEqual([]);
});

test.skipIf(!hasBrowser)("a head that is gone is told, and its return too", async () => {
  const first = await startTestHead(FAST);
  const http = Number(new URL(first.url).port);
  await using opened = await openPage(first.url);
  const { page } = opened;
  await page.getByText(/^LIVE/).waitFor();
  await first[Symbol.asyncDispose]();
  await page.getByText(/^STALE/).waitFor({ timeout: 20_000 });
  expect(await page.locator("#banner").innerText()).toContain("No word from the head");
  await using _again = await startTestHead(FAST, { http });
  await page.getByText(/^LIVE/).waitFor({ timeout: 30_000 });
  expect(await page.locator("#banner").isHidden()).toBe(true);
});

test.skipIf(!hasBrowser)(
  "light and dark, wide and narrow: nothing is cut off or unreadable",
  async () => {
    await using head = await startTestHead(FAST);
    await using _a = worker(head, "gpu-1", ["Qwen/Qwen3-235B-A22B-Instruct-2507"]);
    const colours: string[] = [];
    for (const dark of [false, true]) {
      for (const width of [1200, 360]) {
        await using opened = await openPage(head.url, { dark, width });
        const { page, errors } = opened;
        await waitFor(async () => (await cells(page, "workers")).length === 1, {
          what: "the worker",
        });
        const wide = await page.evaluate("document.documentElement.scrollWidth");
        expect(Number(wide)).toBeLessThanOrEqual(width);
        if (width === 1200)
          colours.push(
            String(await page.evaluate("getComputedStyle(document.body).backgroundColor")),
          );
        const shots = process.env["PAGE_SHOTS"];
        if (shots)
          await page.screenshot({ path: `${shots}/page-${dark ? "dark" : "light"}-${width}.png` });
        expect(errors).toEqual([]);
      }
    }
    expect(colours[0]).not.toBe(colours[1]);
  },
);

test.skipIf(!hasBrowser)(
  "without scripts the page shows the same and asks again by itself",
  async () => {
    await using head = await startTestHead(FAST);
    await using _a = worker(head, "gpu-1", ["m"]);
    await waitFor(async () => (await head.status()).workers.length === 1, { what: "the worker" });
    if (!browser) throw new Error("no browser");
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(head.url);
    expect(await page.locator("#workers").innerText()).toContain("gpu-1");
    expect(await page.content()).toContain('http-equiv="refresh"');
    await context.close();
  },
);

test("for curl it is text", async () => {
  await using head = await startTestHead(FAST);
  const answer = await fetch(head.url, { headers: { accept: "*/*" } });
  expect(answer.headers.get("content-type")).toBe("text/plain; charset=utf-8");
  expect(await answer.text()).toContain("workers 0/0 ready");
});
