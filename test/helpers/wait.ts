/** Waits for conditions that nothing announces. */

/** Polls until `condition` gives something other than false, null or undefined; throws in the end. */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: { what?: string; timeoutMs?: number } = {},
): Promise<NonNullable<Exclude<T, false>>> {
  const deadline = performance.now() + (options.timeoutMs ?? 15_000);
  for (;;) {
    const value = await condition();
    if (value !== false && value !== null && value !== undefined) {
      return value as NonNullable<Exclude<T, false>>;
    }
    if (performance.now() > deadline) {
      throw new Error(`waited in vain for ${options.what ?? condition.toString()}`);
    }
    await Bun.sleep(5);
  }
}
