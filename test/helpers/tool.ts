/** Programs of others that a suite of `test/more` is about. */

/**
 * Where the program is; null, with a line that says so, when the suite is to be skipped. With
 * `CI=true` it must be there: `.ci/run` installs it.
 */
export function toolPath(program: string): string | null {
  const found = Bun.which(program, {
    PATH: `${process.env["PATH"]}:/usr/local/sbin:/usr/sbin:/sbin`,
  });
  if (found === null) {
    if (process.env["CI"] === "true") throw new Error(`${program} is not installed`);
    process.stdout.write(`skipped: ${program} is not installed (.ci/run installs it)\n`);
  }
  return found;
}
