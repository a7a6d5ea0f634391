/** What is to happen in a run without timers, in the order of its time. */

export type Action = (now: number) => void;

/** Does what is due in the order of its time; of equals, what was added first. */
export function createQueue() {
  const times: number[] = [];
  const actions: Action[] = [];
  const swap = (a: number, b: number) => {
    const [time, action] = [times[a] as number, actions[a] as Action];
    times[a] = times[b] as number;
    actions[a] = actions[b] as Action;
    times[b] = time;
    actions[b] = action;
  };
  const take = () => {
    const [time, action] = [times[0] as number, actions[0] as Action];
    const last = times.length - 1;
    swap(0, last);
    times.pop();
    actions.pop();
    for (let at = 0; ;) {
      const left = at * 2 + 1;
      if (left >= last) break;
      const right = left + 1;
      const least =
        right < last && (times[right] as number) < (times[left] as number) ? right : left;
      if ((times[least] as number) >= (times[at] as number)) break;
      swap(least, at);
      at = least;
    }
    return { time, action };
  };
  return {
    add(time: number, action: Action) {
      times.push(time);
      actions.push(action);
      for (let at = times.length - 1; at > 0;) {
        const parent = (at - 1) >> 1;
        if ((times[parent] as number) <= (times[at] as number)) break;
        swap(parent, at);
        at = parent;
      }
    },
    run() {
      while (times.length > 0) {
        const { time, action } = take();
        action(time);
      }
    },
  };
}
