/** The program: runs one command and ends with its exit code. */

import { runCli } from "./cli/run.ts";

process.exit(await runCli(process.argv.slice(2), process.env));
