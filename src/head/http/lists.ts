/** Answers with long lists, made over several turns of the event loop: none holds requests up. */

export interface TurnSettings {
  /** How long a turn may go on, but for a single step. */
  turnMs: number;
  now: () => number;
  /** Lets all that is due meanwhile go first. */
  rest: () => Promise<unknown>;
}

const TURNS: TurnSettings = {
  turnMs: 2,
  now: () => performance.now(),
  rest: () => new Promise((resolve) => setImmediate(resolve)),
};

/** Does `work` for each of the steps. */
export async function inTurns<T>(
  steps: Iterable<T>,
  work: (step: T) => void,
  { turnMs, now, rest } = TURNS,
): Promise<void> {
  let since = now();
  for (const step of steps) {
    work(step);
    if (now() - since < turnMs) continue;
    await rest();
    since = now();
  }
}

/** Values of an answer's fields; an iterator stands for a list, each item of which is a step. */
export type ListFields = Iterable<readonly [name: string, value: unknown]>;

/** The JSON of an object, in pieces: to join those of a large one takes longer than a turn. */
export async function jsonChunks(fields: ListFields, turns = TURNS): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  const encoder = new TextEncoder();
  let text = "";
  await inTurns(
    jsonParts(fields),
    (part) => {
      text += part;
      if (text.length < CHUNK) return;
      chunks.push(encoder.encode(text));
      text = "";
    },
    turns,
  );
  chunks.push(encoder.encode(text));
  return chunks;
}

/** Small enough that a turn which ends with one is hardly longer for it. */
const CHUNK = 64 * 1024;

function* jsonParts(fields: ListFields): Generator<string> {
  let before = "{";
  for (const [name, value] of fields) {
    const start = `${before}${JSON.stringify(name)}:`;
    before = ",";
    if (value instanceof Iterator) {
      yield start;
      yield* listParts(value);
    } else yield start + JSON.stringify(value);
  }
  yield before === "{" ? "{}" : "}";
}

function* listParts(items: Iterable<unknown>): Generator<string> {
  let before = "[";
  for (const item of items) {
    yield before + JSON.stringify(item);
    before = ",";
  }
  yield before === "[" ? "[]" : "]";
}

export async function listAnswer(fields: ListFields): Promise<Response> {
  return jsonAnswer(await jsonChunks(fields));
}

export function jsonAnswer(
  chunks: readonly Uint8Array[],
  headers?: Record<string, string>,
): Response {
  return chunkedAnswer(chunks, { "content-type": "application/json;charset=utf-8", ...headers });
}

/** A small answer whole, a large one in its pieces. */
export function chunkedAnswer(
  chunks: readonly Uint8Array[],
  headers: Record<string, string>,
): Response {
  const [first, ...more] = chunks;
  return new Response(more.length === 0 ? first : each(chunks), { headers });
}

/** At the pace of the reader. */
async function* each(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

/**
 * Makes one at a time, and one for all who ask before it is begun. Whoever asks while one is made
 * gets the next: what was done before a question is in its answer.
 */
export function oneForAll<T>(make: () => Promise<T>): () => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  let next: Promise<T> | null = null;
  const begin = () => {
    next = null;
    return make();
  };
  return () => (last = next ??= last.then(begin, begin)) as Promise<T>;
}
