/** Clients that ask for much and stop reading after the first bytes. */

import { createWriter } from "../http1.ts";
import { ANSWER_BYTES_HEADER } from "./options.ts";
import { plainRequest } from "../wire.ts";

const OPEN_AT_ONCE = 32;
const FIRST_BYTES_LIMIT_MS = 20_000;

export interface StalledReaders extends Disposable {
  /** How many of them the other side has given up. */
  readonly cut: number;
}

/** Settles once each of them has seen the start of its answer. */
export async function stallReaders(options: {
  port: number;
  readers: number;
  answerBytes: number;
}): Promise<StalledReaders> {
  const request = plainRequest(200, { [ANSWER_BYTES_HEADER]: String(options.answerBytes) });
  const sockets: Bun.Socket[] = [];
  let cut = 0;
  let over = false;
  const end = () => {
    over = true;
    for (const socket of sockets) socket.terminate();
  };
  const open = async () => {
    const first = Promise.withResolvers<void>();
    const gone = () => {
      if (!over) cut += 1;
      first.reject(new Error("a stalled reader was cut before its answer began"));
    };
    first.promise.catch(() => {}); // whoever waits hears of it
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: options.port,
      socket: {
        data(self) {
          self.pause();
          first.resolve();
        },
        drain() {
          writer.drain();
        },
        close: gone,
      },
    });
    sockets.push(socket);
    const writer = createWriter(socket);
    writer.write(request);
    await first.promise;
  };
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => timeout.reject(new Error("stalled readers: no answer in time")),
    FIRST_BYTES_LIMIT_MS,
  );
  try {
    for (let n = 0; n < options.readers; n += OPEN_AT_ONCE) {
      const some = Math.min(OPEN_AT_ONCE, options.readers - n);
      await Promise.race([Promise.all(Array.from({ length: some }, open)), timeout.promise]);
    }
  } catch (error) {
    end();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return {
    get cut() {
      return cut;
    },
    [Symbol.dispose]: end,
  };
}
