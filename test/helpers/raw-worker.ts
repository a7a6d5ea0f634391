/** Sessions below the contract: they send the bytes that a test writes. */

import type { WorkerMessage } from "../../src/protocol/messages.ts";
import { loadService } from "../../src/protocol/schema.ts";
import { dial } from "../../src/protocol/session-client.ts";
import { keyOf, type TestHead } from "./cluster.ts";

export interface RawWorker {
  readonly id: string;
  send(bytes: Uint8Array): void;
  /** A message that the contract has, with whatever in it. */
  say(message: object): void;
  end(): Promise<void>;
}

let rawWorkers = 0;

export function rawWorker(head: TestHead): RawWorker {
  const service = loadService();
  const identity = (bytes: Buffer) => bytes;
  const join = service["Join"];
  if (!join) throw new Error("no Join");
  rawWorkers += 1;
  const id = `raw-worker-${rawWorkers}`;
  const closed = Promise.withResolvers<void>();
  const raw = { ...service, Join: { ...join, requestSerialize: identity } };
  const session = dial({
    service: raw as unknown as ReturnType<typeof loadService>,
    head: head.head.sessionAddress,
    tls: false,
    keys: keyOf(head.head.joinToken()),
    onMessage() {},
    onClose: () => closed.resolve(),
  });
  const send = (bytes: Uint8Array) => void session.send(bytes as unknown as WorkerMessage);
  return {
    id,
    send,
    say: (message: object) => send(join.requestSerialize(message)),
    async end() {
      session.end();
      await closed.promise;
    },
  };
}

/** A hello that is let in. */
export function helloOf(id: string, more: object = {}) {
  const hello = { protocol: 2, minProtocol: 2, workerId: id, name: id, run: `run-${id}`, epoch: 1 };
  return { message: "hello", hello: { ...hello, ...more } };
}
