import { expect, test } from "bun:test";
import {
  beginTrace,
  formatTraceparent,
  newSpanId,
  parseTraceparent,
} from "../../src/util/traceparent.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

test("a traceparent is read and written", () => {
  const text = `00-${TRACE}-${SPAN}-01`;
  const parsed = parseTraceparent(text);
  expect(parsed).toEqual({ traceId: TRACE, spanId: SPAN, sampled: true });
  expect(parsed && formatTraceparent(parsed)).toBe(text);
  expect(parseTraceparent(`00-${TRACE}-${SPAN}-02`)?.sampled).toBe(false);
  expect(formatTraceparent({ traceId: TRACE, spanId: SPAN, sampled: false })).toEndWith("-00");
});

test("later versions may say more, this one may not", () => {
  expect(parseTraceparent(`01-${TRACE}-${SPAN}-01-more`)?.traceId).toBe(TRACE);
  expect(parseTraceparent(`00-${TRACE}-${SPAN}-01-more`)).toBeNull();
});

test("what is none is none", () => {
  const wrong = [
    null,
    "",
    "00",
    `ff-${TRACE}-${SPAN}-01`,
    `00-${"0".repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${"0".repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}`,
    `01-${TRACE}-${SPAN}-01-${"x".repeat(600)}`,
  ];
  for (const text of wrong) expect([text, parseTraceparent(text)]).toEqual([text, null]);
});

test("a trace goes on with the caller's, or begins and is recorded", () => {
  expect(beginTrace(`00-${TRACE}-${SPAN}-00`)).toMatchObject({
    traceId: TRACE,
    parentSpanId: SPAN,
    sampled: false,
  });
  const begun = beginTrace("nonsense");
  expect(begun).toMatchObject({ parentSpanId: null, sampled: true });
  expect(begun.traceId).toMatch(/^[0-9a-f]{32}$/);
  expect(begun.spanId).toMatch(/^[0-9a-f]{16}$/);
  expect(newSpanId()).not.toBe(newSpanId());
});
