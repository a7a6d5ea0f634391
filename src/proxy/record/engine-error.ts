/** Reads what engines say when they refuse or fail: seven shapes, one meaning. */

import { cleanLine } from "../../util/text.ts";
import { isRecord } from "../../util/json.ts";

export interface EngineError {
  message: string;
  type: string | null;
  param: string | null;
  /** A word; the numbers that some engines put here repeat the status. */
  code: string | null;
}

/**
 * The error in a body or an event, or null where there is none to be seen. The shapes:
 * `{"error":{message,type,param,code}}` (vLLM, OpenAI, llama-server, Ollama's OpenAI routes);
 * `{"object":"error",message,type,param,code}` (SGLang) and the same without `object` (TensorRT-LLM);
 * `{"error":text,"error_type":type}` (TGI, TEI); `{"error":text}` (Ollama, TensorRT-LLM, vLLM's 401);
 * `{"type":"error","error":{type,message}}` (Anthropic's routes);
 * `{"detail":text}` or `{"detail":[{loc,msg}]}` (FastAPI); `{"message":text}`.
 */
export function readEngineError(value: unknown): EngineError | null {
  if (!isRecord(value)) return null;
  const { error } = value;
  if (isRecord(error)) return fieldsOf(error);
  if (typeof error === "string") {
    return { message: error, type: text(value["error_type"]), param: null, code: null };
  }
  if (value["object"] === "error" || typeof value["message"] === "string") return fieldsOf(value);
  const { detail } = value;
  if (typeof detail === "string") return bare(detail);
  if (Array.isArray(detail)) return bare(detail.map(detailText).join("; "));
  return null;
}

/** The error of a body that may be no JSON at all; then its first line is the message. */
export function readErrorBody(bytes: Uint8Array, status: number): EngineError {
  const body = new TextDecoder().decode(bytes);
  try {
    const read = readEngineError(JSON.parse(body));
    if (read && read.message !== "") return read;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const line = /<html|<!doctype/i.test(body) ? "" : cleanLine(body.split("\n", 1)[0] ?? "", 500);
  return bare(line === "" ? `The engine answered ${status}.` : line);
}

function fieldsOf(fields: Record<string, unknown>): EngineError {
  const message = text(fields["message"]) ?? text(fields["detail"]);
  return {
    message: message ?? JSON.stringify(fields).slice(0, 500),
    type: text(fields["type"]),
    param: text(fields["param"]),
    code: text(fields["code"]),
  };
}

function detailText(item: unknown): string {
  if (!isRecord(item)) return String(item);
  const where = Array.isArray(item["loc"]) ? `${item["loc"].join(".")}: ` : "";
  return `${where}${text(item["msg"]) ?? "wrong"}`;
}

function bare(message: string): EngineError {
  return { message, type: null, param: null, code: null };
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
