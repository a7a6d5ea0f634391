/** Log probabilities: made up from the token alone, in OpenAI's two shapes. */

interface Likely {
  token: string;
  logprob: number;
}

/** For a chat: one entry for each token, with `top` alternatives. */
export function chatLogprobs(tokens: readonly string[], top: number): object {
  const entry = ({ token, logprob }: Likely) => ({
    token,
    logprob,
    bytes: [...Buffer.from(token)],
  });
  return {
    content: tokens.map((token) => ({
      ...entry(likely(token)),
      top_logprobs: alternatives(token, top).map(entry),
    })),
  };
}

/** For a completion: parallel lists. `offset` is where the first token stands in the text. */
export function completionLogprobs(tokens: readonly string[], top: number, offset: number): object {
  let at = offset;
  return {
    text_offset: tokens.map((token) => {
      const here = at;
      at += token.length;
      return here;
    }),
    token_logprobs: tokens.map((token) => likely(token).logprob),
    tokens,
    top_logprobs: tokens.map((token) =>
      Object.fromEntries(alternatives(token, top).map((one) => [one.token, one.logprob])),
    ),
  };
}

function likely(token: string): Likely {
  return { token, logprob: -(Bun.hash.crc32(token) % 1000) / 1000 };
}

/** The token itself, then others that are each less likely. */
function alternatives(token: string, top: number): Likely[] {
  const { logprob } = likely(token);
  return Array.from({ length: top }, (_, i) =>
    i === 0 ? { token, logprob } : { token: `${token}~${i}`, logprob: logprob - i },
  );
}
