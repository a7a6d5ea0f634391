import { expect, test } from "bun:test";
import { loadService } from "../../../src/protocol/schema.ts";
import { dial } from "../../../src/protocol/session-client.ts";
import type { HeadMessage, Refusal, UnknownMessage } from "../../../src/protocol/messages.ts";
import { FAST, fakeWorker, keyOf, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { waitFor } from "../../helpers/wait.ts";

const refusals = ({ lines }: TestHead, code: string) =>
  lines.filter((line) => line.includes('level=warn msg="worker refused"') && line.includes(code));

/** One dial; how it ended. */
async function ends(
  head: TestHead,
  tls: boolean,
  first?: string,
): Promise<[string, Refusal | null]> {
  const closed = Promise.withResolvers<[string, Refusal | null]>();
  let refusal: Refusal | null = null;
  const session = dial({
    service: loadService(),
    head: head.head.sessionAddress,
    tls,
    keys: keyOf(head.head.joinToken()),
    onMessage(message: HeadMessage | UnknownMessage) {
      if (message.message === "refusal") refusal = message.refusal;
    },
    onClose: (reason, own) => closed.resolve([reason, own ?? refusal]),
  });
  const reason = first ?? "hello";
  session.send({ message: "goodbye", goodbye: { left: false, reason, deadlineMs: 0 } });
  return await closed.promise;
}

test("a worker without TLS and a head with it: both say so, the head once", async () => {
  await using head = await startTestHead(FAST, { tls: true });
  for (let i = 0; i < 3; i += 1) {
    const [reason, refusal] = await ends(head, false);
    expect(reason).toContain("speaks TLS");
    expect(refusal).toMatchObject({ code: "tls_mismatch", hint: "leave out --insecure" });
  }
  await waitFor(() => refusals(head, "tls_mismatch").length === 1);
  const [line] = refusals(head, "tls_mismatch");
  expect(line).toContain("address=127.0.0.1");
  expect(line).toContain("it does not speak TLS");
});

test("a worker with TLS and a head without it: both say so, the head once", async () => {
  await using head = await startTestHead(FAST);
  for (let i = 0; i < 3; i += 1) {
    const [reason, refusal] = await ends(head, true);
    expect(reason).toContain("does not speak TLS");
    expect(refusal?.code).toBe("tls_mismatch");
    expect(refusal?.hint).toContain("--insecure");
  }
  await waitFor(() => refusals(head, "tls_mismatch").length === 1);
  const [line] = refusals(head, "tls_mismatch");
  expect(line).toContain("address=127.0.0.1");
  expect(line).toContain("it speaks TLS");
});

test.each([16_400, 1_000_000])(
  "a first message of %d bytes is refused with words, and told once",
  async (size) => {
    await using head = await startTestHead(FAST);
    for (let i = 0; i < 3; i += 1) {
      const [, refusal] = await ends(head, false, "x".repeat(size));
      expect(refusal).toMatchObject({ code: "bad_message", retry: false });
      expect(refusal?.reason).toMatch(/^a message of \d+ bytes; at most 16384 are allowed$/);
    }
    expect(refusals(head, "bad_message").length).toBe(1);
    expect((await head.status()).workers).toEqual([]);
  },
);

test("what is too long even for a refusal ends with words at the worker", async () => {
  await using head = await startTestHead(FAST);
  const [reason] = await ends(head, false, "x".repeat(3_000_000));
  expect(reason).toContain("larger than max");
});

test("a message that is too long in the middle of a session ends it with words; its worker may come again", async () => {
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { models: ["m"] });
  await worker.next("welcome");
  worker.models("x".repeat(20_000));
  const { refusal } = await worker.next("refusal");
  expect(refusal.code).toBe("bad_message");
  await worker.closed;
  const hello = { workerId: worker.id, name: worker.id, run: `run-${worker.id}`, epoch: 2 };
  await using again = fakeWorker(head, { hello });
  await again.next("welcome");
});
