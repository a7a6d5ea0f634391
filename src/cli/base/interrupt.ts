/** Lets a command that waits say something before a signal ends it. */

export interface Interrupt extends Disposable {
  readonly signal: AbortSignal;
  /** The exit code that the signal stands for; 0 before there is one. */
  readonly code: number;
}

/** Source of the numbers: signal(7); shells add them to 128. */
const CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** The same, for a terminal that is gone without a signal. */
export const HUNG_UP = CODES.SIGHUP;

/** A second signal ends the process as if nobody listened. */
export function awaitInterrupt(): Interrupt {
  const controller = new AbortController();
  let code = 0;
  const off = () => {
    for (const name of ["SIGHUP", "SIGINT", "SIGTERM"] as const) process.off(name, take);
  };
  const take = (name: NodeJS.Signals) => {
    off();
    code = name === "SIGHUP" || name === "SIGTERM" ? CODES[name] : CODES.SIGINT;
    controller.abort();
  };
  for (const name of ["SIGHUP", "SIGINT", "SIGTERM"] as const) process.on(name, take);
  return {
    signal: controller.signal,
    get code() {
      return code;
    },
    [Symbol.dispose]: off,
  };
}
