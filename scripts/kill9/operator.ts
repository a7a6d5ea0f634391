/** An operator in a hurry: makes and takes back keys, tokens, aliases and drains, and notes what was confirmed. */

import type { Ledger, Value } from "./ledger.ts";

export interface OperatorOptions {
  url: string;
  token: string;
  /** Part of the names of all that it makes. */
  name: string;
  /** A worker that only this operator drains. */
  worker: string;
  ledger: Ledger;
  random: () => number;
  /** Ends the operator; what was asked for last may or may not have been done. */
  signal: AbortSignal;
}

/** Settles when the head is gone or the signal says so. Rejects for a change that is refused. */
export async function operate(options: OperatorOptions): Promise<void> {
  const { signal } = options;
  const made: string[] = [];
  try {
    while (!signal.aborted) await act(options, made);
  } catch (error) {
    if (error instanceof Refused) throw error;
    // The head has gone while it was asked: nobody knows what became of that.
    return;
  }
}

class Refused extends Error {}

/** What is left over after a kill stays for ever, and a head takes a thousand of each. */
const MAX_MADE = 3;
const REVOKE = 2;

/** One change; `made` are the keys and tokens that can be taken back. */
async function act(options: OperatorOptions, made: string[]): Promise<void> {
  const { name, worker, ledger, random } = options;
  const change = async (path: string, body: object, [entry, value]: [string, Value]) => {
    ledger.mayBecome(entry, value);
    await ask(options, path, body);
    ledger.is(entry, value);
  };
  const isFull = made.length >= MAX_MADE;
  switch (isFull ? REVOKE : Math.floor(random() * 6)) {
    case 0: {
      const { api_key: key } = await ask(options, "/api/v1/keys", { name, role: "user" });
      ledger.is(`keys/${idIn(key)}`, "active");
      made.push(`keys/${idIn(key)}`);
      return;
    }
    case 1: {
      const { join_token: token } = await ask(options, "/api/v1/join-tokens", { note: name });
      ledger.is(`join-tokens/${idIn(token)}`, "active");
      made.push(`join-tokens/${idIn(token)}`);
      return;
    }
    case REVOKE: {
      const entry = made.shift();
      if (entry === undefined) return;
      const [kind, id] = entry.split("/");
      return await change(`/api/v1/${kind}/revoke`, { id }, [entry, null]);
    }
    case 3: {
      const model = `m${Math.floor(random() * 1000)}`;
      const body = { alias: `${name}=${model}`, force: true };
      return await change("/api/v1/aliases", body, [`aliases/${name}`, model]);
    }
    case 4: {
      const body = { workers: [worker], who: name, force: true };
      return await change("/api/v1/workers/drain", body, [`drains/${worker}`, "drain"]);
    }
    default: {
      const body = { workers: [worker] };
      return await change("/api/v1/workers/undrain", body, [`drains/${worker}`, null]);
    }
  }
}

/** All that a head knows of what operators make, by the same names. */
export async function inventory(
  options: Pick<OperatorOptions, "url" | "token">,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const [path, list] of [
    ["keys", "keys"],
    ["join-tokens", "join_tokens"],
  ] as const) {
    const answer = await ask(options, `/api/v1/${path}`);
    // Of those taken back only the latest are remembered.
    const active = rowsIn(answer[list]).filter((one) => one["state"] === "active");
    for (const one of active) found.set(`${path}/${idIn(one)}`, "active");
  }
  for (const one of rowsIn((await ask(options, "/api/v1/aliases"))["aliases"])) {
    found.set(`aliases/${String(one["name"])}`, String(one["text"]));
  }
  for (const one of rowsIn((await ask(options, "/api/v1/workers/drains"))["workers"])) {
    found.set(`drains/${idIn(one)}`, "drain");
  }
  return found;
}

const ANSWER_LIMIT_MS = 10_000;

async function ask(
  { url, token }: Pick<OperatorOptions, "url" | "token">,
  path: string,
  body?: object,
): Promise<Record<string, unknown>> {
  const answer = await fetch(`${url}${path}`, {
    ...(body && { method: "POST", body: JSON.stringify(body) }),
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
  });
  const text = await answer.text();
  if (answer.status !== 200) throw new Refused(`${path} answers ${answer.status}: ${text}`);
  return JSON.parse(text) as Record<string, unknown>;
}

function rowsIn(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value : [];
}

function idIn(value: unknown): string {
  const id = typeof value === "object" && value !== null && "id" in value ? value.id : null;
  if (typeof id !== "string") throw new Refused(`no id in ${JSON.stringify(value)}`);
  return id;
}
