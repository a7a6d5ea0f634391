import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  enter,
  hasWaiting,
  leave,
  newQueue,
  type Queue,
  queueDepths,
  type QueueLimits,
  serve,
  type Waiter,
  waiters,
} from "../../../src/cluster/state/queue.ts";
import { T0, request } from "../fixtures.ts";

const limits: QueueLimits = { maxWaiting: 4, maxWaitingBytes: 1000, maxWaitingInAll: 8 };

function put(
  queue: Queue,
  caller: string,
  more: Parameters<typeof request>[1] & { model?: string } = {},
) {
  const { model = "m", ...rest } = more;
  return enter(queue, request(model, { caller, ...rest }), { now: T0, limits });
}

/** Who is served, in order, where there is room for so many. */
function served(queue: Queue, room: number): string[] {
  const names: string[] = [];
  serve(queue, ({ request: { caller }, id }) => {
    if (names.length >= room) return false;
    names.push(`${caller}${id}`);
    return true;
  });
  return names;
}

test("one of each caller in turn, first come first served within one", () => {
  const queue = newQueue();
  for (const caller of ["a", "a", "a", "b"]) put(queue, caller);
  expect(served(queue, 3)).toEqual(["a1", "b4", "a2"]);
  put(queue, "c");
  expect(served(queue, 9)).toEqual(["a3", "c5"]);
  expect([queue.size, queue.groups.size]).toEqual([0, 0]);
});

test("the turn goes on where it was", () => {
  const queue = newQueue();
  for (const caller of ["a", "b", "a", "b"]) put(queue, caller);
  expect(served(queue, 1)).toEqual(["a1"]);
  expect(served(queue, 1)).toEqual(["b2"]);
  expect(served(queue, 1)).toEqual(["a3"]);
});

test("full: the newest of the longest line leaves, not the newcomer", () => {
  const queue = newQueue();
  const [, , last] = ["a", "a", "a"].map((caller) => put(queue, caller).waiter);
  put(queue, "b");
  expect(put(queue, "c").shed).toEqual([last as Waiter]);
  expect(served(queue, 9)).toEqual(["a1", "b4", "c5", "a2"]);
});

test("full of one caller: its newcomer leaves", () => {
  const queue = newQueue();
  for (let i = 0; i < 4; i += 1) put(queue, "a");
  const { waiter, shed } = put(queue, "a");
  expect(shed).toEqual([waiter]);
  expect(queue.size).toBe(4);
});

test("the bytes of waiting bodies are bounded by who holds most of them", () => {
  const queue = newQueue();
  const large = put(queue, "a", { bodyBytes: 900 }).waiter;
  expect(put(queue, "b", { bodyBytes: 90 }).shed).toEqual([]);
  expect(put(queue, "c", { bodyBytes: 90 }).shed).toEqual([large]);
  expect([...queue.groups.values()].map(({ bytes }) => bytes)).toEqual([180]);
});

test("a body larger than all of the room waits where it is alone", () => {
  const queue = newQueue();
  expect(put(queue, "a", { bodyBytes: 5000 }).shed).toEqual([]);
});

test("all queues together are bounded: names of models come from clients", () => {
  const queue = newQueue();
  for (let i = 0; i < 8; i += 1) put(queue, "a", { model: `m${i}` });
  const { waiter, shed } = put(queue, "a", { model: "another" });
  expect(shed).toEqual([waiter]);
  expect([queue.size, queue.groups.size]).toEqual([8, 8]);
});

test("who cannot be served holds up only those of the same kind", () => {
  const queue = newQueue();
  put(queue, "a", { kinds: ["tei"] });
  put(queue, "a");
  put(queue, "b", { kinds: ["tei"] });
  put(queue, "b", { exclude: ["x/1"] });
  const tried: string[] = [];
  serve(queue, ({ request: { kinds }, id }) => {
    tried.push(String(id));
    return kinds === null;
  });
  // The second one for the missing kind is not even looked at.
  expect(tried).toEqual(["1", "2", "4"]);
  expect([...waiters(queue)].map(({ id }) => id)).toEqual([1, 3]);
});

test("a pinned request waits by itself", () => {
  const queue = newQueue();
  put(queue, "a", { worker: "w" });
  expect(hasWaiting(queue, request("m"))).toBe(false);
  expect(hasWaiting(queue, request("m", { worker: "w" }))).toBe(true);
  expect([...queueDepths(queue)]).toEqual([["m", 1]]);
});

test("groups that wait for the same engines take turns", () => {
  const queue = newQueue();
  for (const worker of [null, null, "w", "w"]) put(queue, "a", { worker });
  const order: (string | null)[] = [];
  for (let i = 0; i < 4; i += 1) {
    let room = 1;
    serve(queue, ({ request: { worker } }) => {
      room -= 1;
      if (room < 0) return false;
      order.push(worker);
      return true;
    });
  }
  expect(order).toEqual([null, "w", null, "w"]);
});

test("whatever happens, sizes and bytes are those of who waits, within the limits, and end at 0", () => {
  const step = fc.record({
    kind: fc.constantFrom("enter", "enter", "enter", "leave", "serve"),
    caller: fc.constantFrom("a", "b", "c"),
    model: fc.constantFrom("m", "n"),
    bytes: fc.nat(600),
    pick: fc.nat(50),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const queue = newQueue();
      const inside = new Set<Waiter>();
      for (const { kind, caller, model, bytes, pick } of steps) {
        if (kind === "enter") {
          const { waiter, shed } = put(queue, caller, { model, bodyBytes: bytes });
          inside.add(waiter);
          for (const other of shed) expect(inside.delete(other)).toBe(true);
        } else if (kind === "leave") {
          const waiter = [...inside][pick % Math.max(1, inside.size)];
          if (waiter) {
            expect(leave(queue, waiter)).toBe(true);
            expect(leave(queue, waiter)).toBe(false);
            inside.delete(waiter);
          }
        } else {
          let room = pick % 3;
          serve(queue, (waiter) => {
            if (room === 0) return false;
            room -= 1;
            return inside.delete(waiter);
          });
        }
        expect(new Set(waiters(queue))).toEqual(inside);
        expect(queue.size).toBe(inside.size);
        expect(queue.size).toBeLessThanOrEqual(limits.maxWaitingInAll);
        for (const group of queue.groups.values()) {
          expect(group.size).toBeGreaterThan(0);
          expect(group.size).toBeLessThanOrEqual(limits.maxWaiting);
          const all = [...group.lines.values()].flat();
          expect(group.bytes).toBe(all.reduce((sum, waiter) => sum + waiter.request.bodyBytes, 0));
          expect([...group.kinds.values()].reduce((a, b) => a + b)).toBe(group.size);
        }
      }
      serve(queue, () => true);
      expect([queue.size, queue.groups.size]).toEqual([0, 0]);
    }),
    { numRuns: 300 },
  );
});
