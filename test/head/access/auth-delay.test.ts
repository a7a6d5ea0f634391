import { expect, test } from "bun:test";
import { type AuthDelayOptions, createAuthDelay } from "../../../src/head/access/auth-delay.ts";
import { waitFor } from "../../helpers/wait.ts";

const never = () => new AbortController().signal;

function started(more: Partial<AuthDelayOptions> = {}) {
  const clock = { ms: 0 };
  const delay = createAuthDelay({ now: () => clock.ms, firstMs: 20, maxMs: 80, ...more });
  return { clock, delay };
}

/** How long an answer is held back; 0 for one that is not. */
async function held(delay: ReturnType<typeof createAuthDelay>, address: string): Promise<number> {
  const before = performance.now();
  const answer = delay.failed(address, never());
  const isHeld = delay.waiting > 0;
  await answer;
  return isHeld ? performance.now() - before : 0;
}

test("the first failures are answered at once, then later and later, up to a limit", async () => {
  const { delay } = started();
  using _ = delay;
  expect([await held(delay, "a"), await held(delay, "a")]).toEqual([0, 0]);
  const waits = [await held(delay, "a"), await held(delay, "a"), await held(delay, "a")];
  const least = [19, 39, 79];
  expect(waits.map((ms, index) => ms >= (least[index] ?? 0))).toEqual([true, true, true]);
  // Another address has done nothing yet.
  expect(await held(delay, "b")).toBe(0);
});

test("failures are forgiven, one after the other", async () => {
  const { clock, delay } = started({ forgiveMs: 1000 });
  using _ = delay;
  for (let i = 0; i < 3; i += 1) await held(delay, "a");
  clock.ms += 1000;
  expect(await held(delay, "a")).toBeGreaterThan(0);
  clock.ms += 60_000;
  expect(await held(delay, "a")).toBe(0);
});

test("when too many wait, an answer is not held at all; those that wait can leave", async () => {
  const { delay } = started({ free: 0, firstMs: 60_000, maxMs: 60_000, maxWaiting: 2 });
  using _ = delay;
  const leaving = new AbortController();
  const first = delay.failed("a", leaving.signal);
  const second = delay.failed("b", never());
  expect(delay.waiting).toBe(2);
  expect(await delay.failed("c", never())).toBe(false);
  leaving.abort();
  expect(await first).toBe(true);
  expect(delay.waiting).toBe(1);
  const gone = delay.failed("d", AbortSignal.abort());
  expect(await gone).toBe(true);
  delay[Symbol.dispose]();
  expect(await second).toBe(true);
  await waitFor(() => delay.waiting === 0);
});

test("addresses beyond the limit push out the one that failed longest ago", async () => {
  const { delay } = started({ free: 1, maxAddresses: 2 });
  using _ = delay;
  for (const address of ["a", "b", "c"]) await held(delay, address);
  expect(await held(delay, "a")).toBe(0);
  expect(await held(delay, "c")).toBeGreaterThan(0);
});
