/** Lets one side sleep until the other says that something has changed. */

export interface Notifier {
  /** Settles with the next `notify`. */
  wait(): Promise<void>;
  notify(): void;
}

export function createNotifier(): Notifier {
  let next: PromiseWithResolvers<void> | null = null;
  return {
    wait() {
      next ??= Promise.withResolvers<void>();
      return next.promise;
    },
    notify() {
      next?.resolve();
      next = null;
    },
  };
}
