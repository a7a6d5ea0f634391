/** Splits a shell command line into simple commands: enough to recognise an engine in it. */

export type Environment = Record<string, string | undefined>;

const NAME = /^[A-Za-z_][A-Za-z0-9_]*/;

/**
 * The simple commands of a line, each as words, in order. Quotes, escapes, comments and plain
 * variables (`$A`, `${A}`, `${A:-b}`) are understood; redirections are left out, and so is what
 * stands after a pipe. Anything cleverer is passed over: this reads hints, it runs nothing. A
 * change that the caller makes to `env` counts from the next command on.
 */
export function* shellCommands(line: string, env: Environment): Generator<string[]> {
  let words: string[] = [];
  let word: string | null = null;
  let piped = false;
  const endWord = () => {
    if (word !== null) words.push(word);
    word = null;
  };
  const endCommand = (): string[] => {
    endWord();
    const done = piped ? [] : withoutRedirections(words);
    words = [];
    return done;
  };
  let i = 0;
  while (i < line.length) {
    const char = line[i] ?? "";
    if (char === "'") {
      const end = line.indexOf("'", i + 1);
      word = (word ?? "") + line.slice(i + 1, end < 0 ? line.length : end);
      i = end < 0 ? line.length : end + 1;
    } else if (char === '"') {
      const quoted = doubleQuoted(line, i + 1, env);
      word = (word ?? "") + quoted.text;
      i = quoted.next;
    } else if (char === "\\") {
      if (line[i + 1] !== "\n") word = (word ?? "") + (line[i + 1] ?? "");
      i += 2;
    } else if (char === "$") {
      const variable = expand(line, i, env);
      word = (word ?? "") + variable.text;
      i = variable.next;
    } else if (char === "#" && word === null) {
      const end = line.indexOf("\n", i);
      i = end < 0 ? line.length : end;
    } else if (char === "&" && />$/.test(word ?? "")) {
      word = `${word ?? ""}&`;
      i += 1;
    } else if (char === "\n" || char === ";" || char === "&" || char === "|") {
      const isPipe = char === "|" && line[i + 1] !== "|";
      const done = endCommand();
      if (done.length > 0) yield done;
      piped = isPipe;
      i += line[i + 1] === char ? 2 : 1;
    } else if (/[\s(){}]/.test(char)) {
      endWord();
      i += 1;
    } else {
      word = (word ?? "") + char;
      i += 1;
    }
  }
  const done = endCommand();
  if (done.length > 0) yield done;
}

function doubleQuoted(line: string, start: number, env: Environment) {
  let text = "";
  let i = start;
  while (i < line.length && line[i] !== '"') {
    if (line[i] === "\\" && '"\\$`\n'.includes(line[i + 1] ?? " ")) {
      text += line[i + 1] === "\n" ? "" : (line[i + 1] ?? "");
      i += 2;
    } else if (line[i] === "$") {
      const variable = expand(line, i, env);
      text += variable.text;
      i = variable.next;
    } else {
      text += line[i];
      i += 1;
    }
  }
  return { text, next: i + 1 };
}

function expand(line: string, at: number, env: Environment): { text: string; next: number } {
  const rest = line.slice(at + 1);
  const braced = /^\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^}]*))?\}/.exec(rest);
  if (braced) {
    const value = env[braced[1] ?? ""];
    const text = value === undefined || value === "" ? (braced[2] ?? "") : value;
    return { text, next: at + 1 + braced[0].length };
  }
  const plain = NAME.exec(rest);
  if (!plain) return { text: "$", next: at + 1 };
  return { text: env[plain[0]] ?? "", next: at + 1 + plain[0].length };
}

function withoutRedirections(words: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < words.length; i += 1) {
    const word = words[i] ?? "";
    const redirection = /^\d*(?:>>?|<)(&?)(.*)$/.exec(word);
    if (!redirection) kept.push(word);
    else if (redirection[2] === "") i += 1;
  }
  return kept;
}
