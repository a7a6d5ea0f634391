/** Reads server-sent events, as far as the head sends them. Source: HTML standard, section 9.2. */

export interface ServerEvent {
  event: string;
  data: string;
}

/** A frame of a thousand rows is some hundred kilobytes; more than this is not a head. */
const MAX_EVENT_CHARS = 16 * 1024 * 1024;

/** `onBytes` is called for everything that comes, comments too. Throws for an event without end. */
export async function* readEvents(
  body: ReadableStream<Uint8Array> | null,
  onBytes: () => void = () => {},
): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body ?? []) {
    onBytes();
    // Over all that is left: a chunk may end between the two of a line end.
    rest = (rest + decoder.decode(chunk, { stream: true })).replaceAll("\r\n", "\n");
    const blocks = rest.split("\n\n");
    rest = blocks.pop() ?? "";
    if (rest.length > MAX_EVENT_CHARS) throw new Error("the answer is not a stream of a head");
    for (const block of blocks) {
      const event = readBlock(block);
      if (event) yield event;
    }
  }
}

function readBlock(block: string): ServerEvent | null {
  let event = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length === 0 ? null : { event, data: data.join("\n") };
}
