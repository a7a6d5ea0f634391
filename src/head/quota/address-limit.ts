/** Counts the running requests of each client address, so that one client cannot take all. */

export interface AddressLimit {
  /** False when the address has as many as are allowed; then nothing is counted. */
  take(address: string): boolean;
  give(address: string): void;
}

export function createAddressLimit(max: number): AddressLimit {
  const running = new Map<string, number>();
  return {
    take(address) {
      const count = running.get(address) ?? 0;
      if (count >= max) return false;
      running.set(address, count + 1);
      return true;
    },
    give(address) {
      const left = (running.get(address) ?? 0) - 1;
      if (left > 0) running.set(address, left);
      else running.delete(address);
    },
  };
}
