/** Hides secrets in text that is going to be shown. */

const HIDDEN = "***";

// Hugging Face and OpenAI-like keys, bearer credentials, `--api-key x`, `"token": "x"`,
// `API_KEY=x`, and passwords in URLs.
const SECRETS: ReadonlyArray<readonly [RegExp, string]> = [
  [/\bhf_[A-Za-z0-9]{6,}/g, `hf_${HIDDEN}`],
  [/\bsk-[\w-]{8,}/g, `sk-${HIDDEN}`],
  [/\b(bearer)\s+[\w.~+/=-]{4,}/gi, `$1 ${HIDDEN}`],
  [/\b(basic)\s+[A-Za-z0-9+/]{8,}={0,2}/gi, `$1 ${HIDDEN}`],
  [
    /((?:api[-_]?keys?|hf[-_]token|access[-_]token|auth[-_]token|secret|password|passwd)["']?(?:\s*[=:]\s*|\s+)\[?["']?)(?!None\b|null\b)[^\s"',\]}&]+/gi,
    `$1${HIDDEN}`,
  ],
  [/(\w:\/\/[^/\s:@]*):[^/\s@]+@/g, `$1:${HIDDEN}@`],
];

/** The text with what looks like a key, a token or a password replaced by `***`. */
export function maskSecrets(text: string): string {
  let masked = text;
  for (const [pattern, replacement] of SECRETS) masked = masked.replace(pattern, replacement);
  return masked;
}
