/** Runs before every test file: real processes on a busy machine need more than bun's 5 s. */

import { setDefaultTimeout } from "bun:test";

setDefaultTimeout(30_000);
