/** Finds the `model` in a form as it arrives, so that large files can be passed on as they come. */

import type { Span } from "../json/scan.ts";

/** What the scan knows by now. */
export type FormScan = { state: "more" } | { state: "absent" } | { state: "found"; model: string };

export interface FormScanner {
  /** Where the model's name lies, once it is found. */
  readonly modelSpan: Span | null;
  /** Looks at what `bytes` has beyond the last call; the same bytes must stand before that. */
  scan(bytes: Buffer): FormScan;
}

/** The boundary of a multipart body, or null when the header names none (RFC 2046, 5.1.1). */
export function boundaryOf(contentType: string): string | null {
  if (!/^multipart\/form-data\b/i.test(contentType)) return null;
  const match = /;\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType);
  return match?.[1] ?? match?.[2] ?? null;
}

/** Engines' own parsers take no more parts, nor longer headers of one. */
const MAX_PARTS = 1000;
const MAX_HEADER_BYTES = 16 * 1024;
/** Of a longer value only its beginning is told: it names no model. */
const MAX_MODEL_BYTES = 16 * 1024;

export function createFormScanner(boundary: string): FormScanner {
  const delimiter = Buffer.from(`\r\n--${boundary}`);
  /** Where the search for the next delimiter goes on; -1: it has not begun. */
  let from = -1;
  /** Where the value of the `model` part begins, once its header was seen. */
  let valueStart: number | null = null;
  /** Where a part's header begins, while it is not complete. */
  let headerStart: number | null = null;
  let modelSpan: Span | null = null;
  let parts = 0;
  return {
    get modelSpan() {
      return modelSpan;
    },
    scan(bytes) {
      for (;;) {
        if (headerStart !== null) {
          // The first delimiter has no line end before it; the last one ends with two hyphens.
          if (bytes.length < headerStart + 2) return { state: "more" };
          if (bytes.toString("latin1", headerStart, headerStart + 2) === "--") {
            return { state: "absent" };
          }
          const end = headerEnd(bytes, headerStart);
          if (end === -1) {
            const isLong = bytes.length - headerStart > MAX_HEADER_BYTES;
            return { state: isLong ? "absent" : "more" };
          }
          parts += 1;
          if (parts > MAX_PARTS) return { state: "absent" };
          const header = bytes.toString("utf8", headerStart, end);
          if (isModel(header)) valueStart = end + 4;
          // An empty part's delimiter begins with the line end that closes its header.
          from = end + 2;
          headerStart = null;
        }
        if (from === -1) {
          // It may begin with a delimiter without its line end: then that counts from before it.
          const bare = delimiter.subarray(2);
          if (bytes.length < bare.length) return { state: "more" };
          from = 0;
          if (bytes.subarray(0, bare.length).equals(bare)) {
            headerStart = bare.length;
            continue;
          }
        }
        const at = bytes.indexOf(delimiter, from);
        if (at === -1) {
          from = Math.max(from, bytes.length - delimiter.length);
          return { state: "more" };
        }
        if (valueStart !== null) {
          modelSpan = { start: valueStart, end: Math.max(at, valueStart) };
          const last = Math.min(modelSpan.end, valueStart + MAX_MODEL_BYTES);
          return { state: "found", model: bytes.toString("utf8", valueStart, last) };
        }
        headerStart = at + delimiter.length;
      }
    },
  };
}

/** Where the blank line is that ends a header, or -1. */
function headerEnd(bytes: Buffer, from: number): number {
  const end = bytes.subarray(from, from + MAX_HEADER_BYTES).indexOf("\r\n\r\n");
  return end === -1 ? -1 : from + end;
}

function isModel(header: string): boolean {
  const disposition = /^content-disposition:\s*form-data\b(.*)$/im.exec(header)?.[1] ?? "";
  return /;\s*name="?model"?\s*(;|$)/i.test(disposition) && !/;\s*filename/i.test(disposition);
}
