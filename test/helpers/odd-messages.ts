/** Messages that no worker would send. */

import fc from "fast-check";

const TEXT = fc.oneof(
  fc.string({ maxLength: 20 }).map((text) => `x${text}`),
  fc.constantFrom(
    "",
    "1",
    "__proto__",
    "constructor",
    "\u001b[2J\u001b]0;x\u0007",
    "a\r\nb",
    "\u202egnp",
    "\ud800",
    "../..",
    "x".repeat(3000),
    "http://127.0.0.1:1/",
    "file:///etc/hostname",
  ),
);
export const ODD_NUMBER = fc.constantFrom(
  0,
  -0,
  1,
  -1,
  1.5,
  NaN,
  Infinity,
  -Infinity,
  1e308,
  5e-324,
  2 ** 53,
);
const UINT = fc.constantFrom(0, 1, 2, 65_535, 65_536, 2 ** 31, 2 ** 32 - 1);
const LONG = fc.constantFrom(0, 1, 2, 2 ** 32, 2 ** 53 - 1, 2 ** 63);

/** Messages of workers as the contract has them, with extreme values. */
export const ODD_MESSAGE = fc.oneof(
  fc.record({
    message: fc.constant("hello"),
    hello: fc.record({
      protocol: UINT,
      minProtocol: UINT,
      version: TEXT,
      workerId: TEXT,
      name: TEXT,
      nameChosen: fc.boolean(),
      run: TEXT,
      epoch: LONG,
      labels: fc.dictionary(TEXT, TEXT, { maxKeys: 3 }),
      sentAt: ODD_NUMBER,
      data: TEXT,
    }),
  }),
  fc.record({
    message: fc.constant("engine"),
    engine: fc.record({
      engine: TEXT,
      run: TEXT,
      kind: TEXT,
      state: fc.oneof(
        fc.integer({ min: 0, max: 12 }),
        UINT.map((n) => n | 0),
      ),
      phase: TEXT,
      reason: TEXT,
      sinceMs: ODD_NUMBER,
      port: UINT,
      https: fc.boolean(),
      loopbackOnly: fc.boolean(),
      advertise: TEXT,
      apiKey: TEXT,
      restarts: UINT,
      expectedModels: fc.array(TEXT, { maxLength: 4 }),
      maxInFlight: UINT,
      gpusWanted: UINT,
      gpus: fc.array(TEXT, { maxLength: 4 }),
      hostHeader: TEXT,
      service: TEXT,
      evidence: fc.array(TEXT, { maxLength: 9 }),
      hint: TEXT,
      failure: TEXT,
      phaseMs: ODD_NUMBER,
    }),
  }),
  fc.record({
    message: fc.constant("models"),
    models: fc.record({
      engine: TEXT,
      run: TEXT,
      revision: LONG,
      models: fc.array(
        fc.record({
          id: TEXT,
          parent: TEXT,
          maxModelLen: ODD_NUMBER,
          loaded: fc.boolean(),
          card: fc.oneof(TEXT, fc.json()),
        }),
        { maxLength: 4 },
      ),
      more: fc.boolean(),
    }),
  }),
  fc.record({
    message: fc.constant("heartbeat"),
    heartbeat: fc.record({
      sequence: LONG,
      host: fc.option(
        fc.record({ cpuPercent: ODD_NUMBER, memoryBytes: ODD_NUMBER, ageMs: ODD_NUMBER }),
      ),
      gpus: fc.array(
        fc.record({
          uuid: TEXT,
          index: UINT,
          name: TEXT,
          utilizationPercent: ODD_NUMBER,
          memoryUsedBytes: ODD_NUMBER,
          unified: fc.boolean(),
          migParent: TEXT,
          ageMs: ODD_NUMBER,
        }),
        { maxLength: 4 },
      ),
      gpuProblem: TEXT,
      loads: fc.array(
        fc.record(
          {
            engine: TEXT,
            running: UINT,
            waiting: UINT,
            kvUsage: ODD_NUMBER,
            prefixHitTokens: ODD_NUMBER,
            prefixQueryTokens: ODD_NUMBER,
            sampleAgeMs: ODD_NUMBER,
          },
          { requiredKeys: ["engine", "sampleAgeMs"] },
        ),
        { maxLength: 4 },
      ),
    }),
  }),
  fc.record({
    message: fc.constant("goodbye"),
    goodbye: fc.record({ left: fc.boolean(), reason: TEXT, deadlineMs: ODD_NUMBER }),
  }),
);
