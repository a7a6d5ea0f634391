import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { runProcess } from "../../helpers/process.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";
import { detailOf, model, worker } from "../../top/sample.ts";
import { type ListHead, run, startListHead } from "../lists/list-head.ts";

const MAIN = resolve(import.meta.dir, "../../../src/main.ts");
const SLOW = { timeoutMs: 20_000 };
let dir: TempDir;
let head: ListHead;

/** `llmnode` on the PATH, a file with a name of its own, and a head with two models. */
beforeAll(() => {
  dir = tempDir();
  head = startListHead({
    status: {
      workers: [detailOf(worker("gpu-01"))],
      models: [model("org/big:70b", { ready: 1, replicas: 2 }), model("org/big:7b")],
      services: [],
    },
  });
  const program = join(dir.path, "llmnode");
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
  chmodSync(program, 0o755);
  writeFileSync(join(dir.path, "some-token"), "");
});
afterAll(async () => {
  dir[Symbol.dispose]();
  await head[Symbol.asyncDispose]();
});

function environment(): Record<string, string> {
  return {
    PATH: `${dir.path}:${process.env["PATH"]}`,
    HOME: dir.path,
    LLMNODE_HEAD: head.url,
    TERM: "xterm",
  };
}

async function script(shell: string): Promise<string> {
  const { code, stdout, stderr } = await run(head, ["completion", shell]);
  expect([code, stderr]).toEqual([0, ""]);
  return stdout;
}

describe("bash", () => {
  /** What bash would put in, and whether it would look for files. */
  async function asked(line: string): Promise<string[]> {
    const ask = `${await script("bash")}
compopt() { echo "files:"; }
COMP_LINE=$LINE COMP_POINT=\${#LINE}
__llmnode_complete
printf '%s\\n' "\${COMPREPLY[@]}"`;
    const env = { ...environment(), LINE: line };
    const { stdout, stderr } = await runProcess(["bash", "--norc", "-c", ask], {
      env,
      cwd: dir.path,
      ...SLOW,
    });
    expect(stderr).toBe("");
    return stdout.split("\n").filter((one) => one !== "");
  }

  test.each([
    ["llmnode drai", ["drain"]],
    ["llmnode drain ", ["gpu-01"]],
    ["llmnode --head nowhere.invalid drain ", []],
    // Bash takes a colon for the end of a word: what is before it stays where it is.
    ["llmnode models org/big:7", ["70b", "7b"]],
    ["llmnode models o", ["org/big:70b", "org/big:7b"]],
    ["llmnode wait x --for=r", ["ready"]],
    ["llmnode --token-file ", ["files:"]],
    ["llmnode status x", []],
  ])("%s", async (line, expected) => {
    expect(await asked(line)).toEqual(expected);
  });

  test("with a key that is pressed", async () => {
    const rc = join(dir.path, "bashrc");
    writeFileSync(rc, `${await script("bash")}\nPS1='ready> '\n`);
    let screen = "";
    const shell = Bun.spawn(["bash", "--noprofile", "--rcfile", rc, "-i"], {
      env: environment(),
      cwd: dir.path,
      terminal: {
        cols: 100,
        rows: 30,
        data: (_, bytes) => void (screen += new TextDecoder().decode(bytes)),
      },
    });
    try {
      await waitFor(() => screen.includes("ready> "), SLOW);
      shell.terminal?.write("llmnode undrain gp\t");
      await waitFor(() => screen.includes("llmnode undrain gpu-01 "), SLOW);
      shell.terminal?.write("\u0015llmnode models org/big:70\t");
      await waitFor(() => screen.includes("llmnode models org/big:70b "), SLOW);
      shell.terminal?.write("\u0015llmnode --token-file some\t");
      await waitFor(() => screen.includes("llmnode --token-file some-token "), SLOW);
    } finally {
      shell.kill("SIGKILL");
      await shell.exited;
      shell.terminal?.close();
    }
  });
});

test.skipIf(Bun.which("zsh") === null)("zsh, with a key that is pressed", async () => {
  const file = join(dir.path, "completion.zsh");
  writeFileSync(file, await script("zsh"));
  writeFileSync(
    join(dir.path, ".zshrc"),
    `PS1='ready> '\nautoload -Uz compinit && compinit -D -u\nsource ${file}\n`,
  );
  let screen = "";
  const shell = Bun.spawn(["zsh", "-d", "-i"], {
    env: { ...environment(), ZDOTDIR: dir.path },
    cwd: dir.path,
    terminal: {
      cols: 100,
      rows: 30,
      data: (_, bytes) => void (screen += new TextDecoder().decode(bytes)),
    },
  });
  try {
    await waitFor(() => screen.includes("ready> "), SLOW);
    shell.terminal?.write("llmnode undrain gp\t");
    await waitFor(() => /undrain gpu-01/.test(plain(screen)), SLOW);
    shell.terminal?.write("\u0015llmnode models org/big:70\t");
    await waitFor(() => /org\/big:70b/.test(plain(screen)), SLOW);
  } finally {
    shell.kill("SIGKILL");
    await shell.exited;
    shell.terminal?.close();
  }
});

test.skipIf(Bun.which("fish") === null)("fish", async () => {
  const ask = `${await script("fish")}\ncomplete -C "llmnode undrain gp"\ncomplete -C "llmnode models org/big:70"\n`;
  const { stdout, stderr } = await runProcess(["fish", "--no-config", "-c", ask], {
    env: environment(),
    ...SLOW,
  });
  expect([stdout, stderr]).toEqual(["gpu-01\tready\norg/big:70b\t1 of 2 ready\n", ""]);
});

/** Without what moves the cursor and colours. */
function plain(screen: string): string {
  // oxlint-disable-next-line no-control-regex
  return screen.replace(/\u001b\[[\d;?]*[A-Za-z]|\u001b[=>]/g, "").replaceAll("\r", "");
}
