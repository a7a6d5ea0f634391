/** `llmnode head backup` and `llmnode head restore`: the head's state in one file, and back. */

import { usage } from "../base/messages.ts";
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { readLocalAdmin } from "../../protocol/head-files.ts";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { createLog } from "../../util/log.ts";
import { cleanLine, count } from "../../util/text.ts";
import { actionNamed } from "../parse/parse.ts";
import { type HeadClient, headClient, postStream } from "../client/api.ts";
import { shellWord } from "../base/shell-word.ts";
import { dataDirectory } from "../daemon/daemon.ts";
import { EXIT } from "../base/exit-codes.ts";
import { trustFor } from "../client/head-tls.ts";
import { versionFacts } from "../daemon/program.ts";
import type { Invocation } from "../base/spec.ts";
import type { Terminal } from "../base/terminal.ts";

type Action = (job: { invocation: Invocation; terminal: Terminal; file: string }) => Promise<void>;

const ACTIONS: Record<string, Action> = {
  async backup({ invocation, terminal, file }) {
    const shown = cleanLine(file, 200);
    const { options } = invocation;
    if (existsSync(file) && !options.isOn("force")) {
      throw new LlmnodeError("refused", `${shown} is there already`, {
        hints: [`replace it:   llmnode head backup ${shellWord(file)} --force`],
      });
    }
    const { readBackup } = await import("../../head/store/backup.ts");
    const pieces = await take(invocation, terminal);
    const bytes = await writeWhole(file, pieces, (text) => void readBackup(text, "what came"));
    terminal.err.write(
      `${shown}: ${count(bytes, "byte")}; anyone who has this file can impersonate the head: keep it safe\n`,
    );
  },

  async restore({ invocation, terminal, file }) {
    const dataDir = dataDirectory(invocation.options, invocation.env);
    const { readBackup, restoreBackup } = await import("../../head/store/backup.ts");
    const shown = cleanLine(file, 200);
    const text = await Bun.file(file)
      .text()
      .catch((error: unknown) => {
        throw usage(`${shown} cannot be read: ${messageOf(error)}`);
      });
    const backup = readBackup(text, shown);
    restoreBackup(backup, dataDir);
    terminal.err.write(
      [
        `the head of ${cleanLine(backup.createdAt, 40)} is in ${cleanLine(dataDir, 200)}`,
        `  start it:   llmnode head --data-dir ${shellWord(dataDir)}`,
        "  never two heads of one backup at once: workers could not tell them apart",
        "",
      ].join("\n"),
    );
  },
};

/** What `head <action> <file>` says. Throws `usage`, and what the action does. */
export async function runHeadAction(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [action = "", file] = invocation.words;
  const found = actionNamed("head", ACTIONS, action);
  if (file === undefined || file === "") throw usage(`head ${action} needs the name of a file`);
  for (const warning of invocation.warnings) terminal.err.write(`warning: ${warning}\n`);
  await found({ invocation, terminal, file });
  return EXIT.ok;
}

/** From the head that was named, else from the one that runs in the data directory, else from there. */
async function take(
  invocation: Invocation,
  terminal: Terminal,
): Promise<AsyncIterable<Uint8Array | string> | Iterable<string>> {
  const { options, env } = invocation;
  const dataDir = dataDirectory(options, env);
  // Of two that are named the one that was typed counts.
  const isElsewhere =
    options.from("head") === "flag" ||
    (options.isGiven("head") && options.from("data-dir") !== "flag");
  const local = isElsewhere ? null : readLocalAdmin(dataDir);
  if (local === null && !isElsewhere) {
    const { backupOfDirectory } = await import("../../head/store/backup.ts");
    const { version } = versionFacts();
    const log = createLog({
      format: "text",
      level: "warn",
      write: (line) => terminal.err.write(line),
    });
    return await backupOfDirectory({ dataDir, version }, log);
  }
  const client = local === null ? headClient(invocation) : localClient(local, invocation, dataDir);
  const response = await postStream(client, "/api/v1/backup", new AbortController().signal);
  return response.body ?? [];
}

function localClient(
  { url: front, adminUrl, token }: NonNullable<ReturnType<typeof readLocalAdmin>>,
  { options }: Invocation,
  dataDir: string,
): HeadClient {
  const url = adminUrl ?? front;
  const tls = trustFor(front, { ca: options.text("ca"), dataDir });
  const timeoutMs = options.durationMs("timeout") || 5000;
  return { url, timeoutMs, credential: token, ...(tls === null ? {} : { tls }) };
}

/** The file is there whole or not at all, and only its owner may read it. Its size in bytes. */
async function writeWhole(
  file: string,
  pieces: AsyncIterable<Uint8Array | string> | Iterable<string>,
  check: (text: string) => void,
): Promise<number> {
  const fresh = `${file}.${process.pid}.new`;
  try {
    const fd = openSync(fresh, "wx", 0o600);
    let bytes = 0;
    try {
      for await (const piece of pieces) {
        const data = Buffer.from(piece);
        let done = 0;
        while (done < data.length) done += writeSync(fd, data, done);
        bytes += data.length;
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    check(await Bun.file(fresh).text());
    renameSync(fresh, file);
    return bytes;
  } catch (error) {
    rmSync(fresh, { force: true });
    if (error instanceof LlmnodeError) throw error;
    throw new LlmnodeError("refused", `cannot write ${cleanLine(file, 200)}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
