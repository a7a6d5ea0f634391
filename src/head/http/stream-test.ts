/** Two comments apart from each other: whether what lies between head and client holds streams back. */

import { KEEP_ALIVE } from "../../proxy/answer/relay.ts";

/** How long after the first comment of `/health/stream` the second one is due. */
const STREAM_TEST_MS = 500;

/**
 * One comment at once and one later, as the streams of engines are sent: when both arrive together,
 * something between head and client holds streams back.
 */
export function streamTest(): Response {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(KEEP_ALIVE);
      timer = setTimeout(() => {
        controller.enqueue(KEEP_ALIVE);
        controller.close();
      }, STREAM_TEST_MS);
    },
    cancel: () => clearTimeout(timer),
  });
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}
