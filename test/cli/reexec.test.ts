import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { runProcess } from "../helpers/process.ts";

const FIXTURE = resolve(import.meta.dir, "fixtures/reexec.ts");

async function start(limit: string | undefined): Promise<unknown> {
  const args = ["--name", "a b", "--", "-x", ""];
  const { code, stdout, stderr } = await runProcess([process.execPath, FIXTURE, ...args], {
    env: { BUN_CONFIG_MAX_HTTP_REQUESTS: limit, KEPT: "as it was" },
  });
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout);
}

test.each([undefined, "", "10", "256", "65536", "100000", "nonsense"])(
  "a limit of %p is raised, in the same process, with the same arguments",
  async (limit) => {
    expect(await start(limit)).toEqual({
      samePid: true,
      limit: "65535",
      args: ["--name", "a b", "--", "-x", ""],
      kept: "as it was",
    });
  },
);

test("a raised limit is left alone: nothing starts twice", async () => {
  expect(await start("65535")).toMatchObject({ samePid: null, limit: "65535" });
});
