import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { answerTo, bodyOf, judgeStream, MODEL } from "../../../scripts/drill/stream.ts";
import { quickSim, type TestSim } from "../../sim/harness.ts";

const QUESTION = { content: "how are you?", tokens: 12 };
let sim: TestSim;
let whole = "";

beforeAll(async () => {
  sim = await quickSim({ models: [MODEL] });
  const response = await fetch(`${sim.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: bodyOf(QUESTION),
  });
  whole = await response.text();
});
afterAll(() => sim.stop());

const events = () => whole.split("\n\n").filter(Boolean);
const joined = (list: string[]) => list.map((event) => `${event}\n\n`).join("");

test("what the simulated engine says is the answer", () => {
  expect(judgeStream(whole, QUESTION)).toEqual({ kind: "whole", why: "", resumed: false });
  expect(answerTo(QUESTION)).toHaveLength(4 * QUESTION.tokens);
});

test("comments do not matter, but the one of a resumed stream is told", () => {
  const list = events();
  list.splice(5, 0, ": keep-alive", ": llmnode-resumed");
  expect(judgeStream(joined(list), QUESTION)).toEqual({ kind: "whole", why: "", resumed: true });
});

describe("errors", () => {
  test("a stream that stops anywhere", () => {
    for (let count = 0; count < events().length; count++) {
      expect(judgeStream(joined(events().slice(0, count)), QUESTION).kind).toBe("error");
    }
  });

  test("an error event, wherever it stands", () => {
    const error = 'data: {"error":{"code":"upstream_broken","message":"gone"}}';
    const { kind, why } = judgeStream(joined([...events().slice(0, 4), error]), QUESTION);
    expect([kind, why]).toEqual(["error", "error event upstream_broken: gone"]);
  });

  test("a frame that is cut", () => {
    expect(judgeStream(whole.slice(0, 300), QUESTION).kind).toBe("error");
  });
});

describe("wrong", () => {
  const wrongOf = (list: string[]) => {
    const { kind, why } = judgeStream(joined(list), QUESTION);
    expect(kind).toBe("wrong");
    return why;
  };

  test("a token too few, too many, or in the wrong place", () => {
    const [fourth = "", fifth = ""] = events().slice(4, 6);
    expect(wrongOf(events().toSpliced(5, 1))).toStartWith("text differs at byte");
    expect(wrongOf(events().toSpliced(5, 0, fifth))).toStartWith("text differs at byte");
    expect(wrongOf(events().toSpliced(4, 2, fifth, fourth))).toStartWith("text differs at byte");
  });

  test("the answer to another question", () => {
    expect(judgeStream(whole, { ...QUESTION, content: "and you?" }).why).toStartWith(
      "text differs",
    );
  });

  test("a second role, id, usage, end or finish reason", () => {
    const [role = ""] = events();
    expect(wrongOf([role, ...events()])).toBe("2 role deltas");
    const other = events().map((event, i) => (i === 6 ? event.replace("chatcmpl-", "x-") : event));
    expect(wrongOf(other)).toBe("2 ids in one stream");
    const usage = events().find((event) => event.includes('"choices":[],')) ?? "";
    expect(wrongOf([usage, ...events()])).toBe('usage tells "12,12" tokens');
    const finish = events().find((event) => event.includes('"finish_reason":"length"')) ?? "";
    expect(wrongOf([finish, ...events()])).toBe('finish reasons "length,length"');
    expect(wrongOf([...events(), "data: [DONE]"])).toBe("2 times [DONE]");
    expect(wrongOf([...events().slice(0, -1), "data: [DONE]", role])).toBe("2 role deltas");
  });

  test("something after the end", () => {
    const list = events();
    const [done = ""] = list.splice(-1);
    const [usage = ""] = list.splice(-1);
    expect(wrongOf([...list, done, usage])).toBe("something after [DONE]");
  });
});
