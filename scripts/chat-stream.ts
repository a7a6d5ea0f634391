/** Reads the text out of a streamed chat completion, piece by piece as it arrives. */

/**
 * Gives each piece of text to `onText`. Returns null when the stream ended as it should, else what
 * was wrong with it.
 */
export async function readChatStream(
  stream: AsyncIterable<Uint8Array>,
  onText: (text: string) => void,
): Promise<string | null> {
  const decoder = new TextDecoder();
  let rest = "";
  let texts = 0;
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line.trim() === "data: [DONE]") return texts > 0 ? null : "it has no text";
      if (!line.startsWith("data: ")) continue;
      const text = pieceOf(JSON.parse(line.slice(6)));
      if (text === null) return `it carries an error: ${line.slice(6, 500)}`;
      if (text !== "") {
        texts += 1;
        onText(text);
      }
    }
  }
  return rest.trim() === "" ? "it ended early" : `no stream but: ${rest.trim().slice(0, 500)}`;
}

interface Chunk {
  error?: unknown;
  choices?: Array<{ delta?: { content?: string | null } }>;
}

/** The text of one chunk; null when it tells of an error. */
function pieceOf(chunk: Chunk): string | null {
  if (chunk.error !== undefined) return null;
  return chunk.choices?.[0]?.delta?.content ?? "";
}
