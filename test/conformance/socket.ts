/** Clients below HTTP: they send the bytes that a test writes and keep what comes back. */

import net from "node:net";
import { waitFor } from "../helpers/wait.ts";

export interface RawClient extends Disposable {
  /** All that came, as text of one character per byte. */
  received(): string;
  readonly isClosed: boolean;
  write(text: string | Uint8Array): void;
  /** Stops taking bytes from the connection, as a reader does that has stalled. */
  pause(): void;
  resume(): void;
  /** Closes the sending side only. */
  end(): void;
  until(condition: (received: string) => boolean, what: string): Promise<string>;
  closed(): Promise<string>;
}

export async function connect(port: number): Promise<RawClient> {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.setNoDelay(true);
  const chunks: string[] = [];
  let isClosed = false;
  socket.on("data", (data) => chunks.push(data.toString("latin1")));
  socket.on("end", () => {
    isClosed = true;
  });
  socket.on("close", () => {
    isClosed = true;
  });
  // A reset is one of the ways in which a connection ends; `closed` tells all of them.
  socket.on("error", () => {
    isClosed = true;
  });
  await new Promise<void>((resolve) => void socket.once("connect", () => resolve()));
  const received = () => chunks.join("");
  return {
    received,
    get isClosed() {
      return isClosed;
    },
    write: (data) => void socket.write(data),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    end: () => void socket.end(),
    async until(condition, what) {
      await waitFor(() => condition(received()), { what });
      return received();
    },
    async closed() {
      await waitFor(() => isClosed, { what: "the connection to be closed" });
      return received();
    },
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

/** A POST of JSON as it goes over the wire. */
export function rawPost(path: string, body: string, headers: readonly string[] = []): string {
  return [
    `POST ${path} HTTP/1.1`,
    "Host: head.test",
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...headers,
    "",
    body,
  ].join("\r\n");
}

/** The status of each answer on a connection, in order. */
export function statuses(received: string): number[] {
  return [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1]));
}
