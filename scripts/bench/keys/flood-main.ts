/** A client that sends bad API keys as fast as they are answered, until it is ended. */

import { type Connection, openConnection } from "../http1.ts";
import { plainRequest } from "../wire.ts";

const [port, concurrency] = process.argv.slice(2).map(Number);
const counts: Record<number, number> = {};
let connections = 0;

async function flood(): Promise<void> {
  let connection: Connection | null = null;
  const send = () => {
    const secret = Buffer.from(crypto.getRandomValues(new Uint8Array(20))).toString("hex");
    const headers = { authorization: `Bearer sk-ln-${secret.slice(0, 12)}-${secret}` };
    connection?.send(plainRequest(200, headers));
  };
  const open = async () => {
    connections += 1;
    connection = await openConnection(port ?? 0, {
      status(code) {
        counts[code] = (counts[code] ?? 0) + 1;
      },
      body() {},
      end: send,
      closed: () => void open(),
    });
    send();
  };
  await open();
}

await Promise.all(Array.from({ length: concurrency ?? 1 }, flood));
process.stdout.write("flood is up\n");
process.on("message", () => process.send?.({ counts, connections }));
process.on("disconnect", () => process.exit());
