import { expect, test } from "bun:test";
import { maskSecrets } from "../../src/util/mask.ts";

test.each([
  ["token hf_AbCdEfGhIjKl is bad", "token hf_*** is bad"],
  ["Authorization: Bearer abc.def-123", "Authorization: Bearer ***"],
  ["authorization: basic dXNlcjpwYXNz", "authorization: basic ***"],
  ["--api-key s3cret --port 1", "--api-key *** --port 1"],
  ["--api-key=s3cret", "--api-key=***"],
  ["api_key='s3cret', port=1", "api_key='***', port=1"],
  ["api_key=['s3cret']", "api_key=['***']"],
  ['"password": "pw"', '"password": "***"'],
  ["HF_TOKEN=abc", "HF_TOKEN=***"],
  ["http://user:pw@host/x", "http://user:***@host/x"],
  ["key sk-abcdefghijk", "key sk-***"],
])("%s", (text, masked) => expect(maskSecrets(text)).toBe(masked));

test.each([
  "api_key=None, port=8000",
  "max_tokens=16, total tokens: 12",
  "http://127.0.0.1:8000/v1/models",
  "Tried to allocate 2.00 GiB",
  "the token budget is 12",
])("nothing to hide: %s", (text) => expect(maskSecrets(text)).toBe(text));
