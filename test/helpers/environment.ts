/** The environment of programs that tests start. */

/** A home of its own, and no setting of the person who runs the tests; `undefined` removes one. */
export function ownEnvironment(
  home: string,
  extra: Record<string, string | undefined> = {},
): Record<string, string | undefined> {
  const settings = Object.keys(process.env).filter((key) =>
    /^(LLMNODE|BUN|XDG)_|^PORT$|_proxy$/i.test(key),
  );
  return { ...Object.fromEntries(settings.map((key) => [key, undefined])), HOME: home, ...extra };
}
