# Sourced by the other scripts, with ROOT set to the project's directory: puts a bun of the pinned
# version on PATH and installs the packages of the lockfile. Says nothing when all is there.

BUN_VERSION=1.4.5

is_pinned_bun() {
  [ -x "$1" ] && [ "$("$1" --version 2>/dev/null)" = "$BUN_VERSION" ]
}

# Prints the first bun of the pinned version: what an earlier set-up fetched, then the user's own.
# The package's own binary counts too, for machines where npm runs no install scripts.
find_bun() {
  for candidate in "$ROOT/.bun/node_modules/.bin/bun" "$(command -v bun 2>/dev/null)" \
    "${BUN_INSTALL:-${HOME:-}/.bun}/bin/bun" "$ROOT"/.bun/node_modules/@oven/bun-*/bin/bun; do
    if is_pinned_bun "$candidate"; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  return 1
}

# Runs a command; when it fails, once more after a pause: most failed downloads are a short outage.
# Its output is shown only when it failed twice.
try_twice() {
  setup_log=$("$@" 2>&1 </dev/null) && return 0
  echo "that failed, trying once more" >&2
  sleep "${SETUP_RETRY_SECONDS:-2}"
  setup_log=$("$@" 2>&1 </dev/null) && return 0
  printf '%s\n' "$setup_log" | tail -n 20 | sed 's/^/  | /' >&2
  return 1
}

fetch_bun() {
  mkdir -p "$ROOT/.bun" || return 1
  # A project of its own, so that the program's packages are left alone.
  [ -e "$ROOT/.bun/package.json" ] || echo '{ "private": true }' >"$ROOT/.bun/package.json"
  if command -v npm >/dev/null 2>&1; then
    try_twice npm install --prefix "$ROOT/.bun" --save-exact --no-audit --no-fund \
      --fetch-retries=1 --fetch-retry-mintimeout=2000 --loglevel=error "bun@$BUN_VERSION"
  else
    try_twice bun add --cwd "$ROOT/.bun" --exact --trust "bun@$BUN_VERSION"
  fi
}

setup_fail() {
  echo "error: $1" >&2
  shift
  for line in "$@"; do echo "  $line" >&2; done
  exit 1
}

if ! BUN=$(find_bun); then
  if ! command -v npm >/dev/null 2>&1 && ! command -v bun >/dev/null 2>&1; then
    setup_fail "llmnode is built with bun $BUN_VERSION, and neither bun nor npm is here to get it" \
      "with Node.js:   https://nodejs.org/en/download   (npm comes with it)" \
      "or bun itself:  curl -fsSL https://bun.sh/install | bash -s bun-v$BUN_VERSION" \
      "then run this again"
  fi
  echo "fetching bun $BUN_VERSION into .bun/ (once)" >&2
  fetch_bun || setup_fail "cannot fetch bun $BUN_VERSION (what npm or bun said is above)" \
    "is there a network, and does a proxy need HTTPS_PROXY to be set?"
  BUN=$(find_bun) || setup_fail "the fetched bun $BUN_VERSION does not run on this machine" \
    "another way:    curl -fsSL https://bun.sh/install | bash -s bun-v$BUN_VERSION"
fi
PATH="$(dirname "$BUN"):$PATH"
export PATH

[ -d "$ROOT/node_modules" ] || echo "installing packages (once)" >&2
try_twice bun install --cwd "$ROOT" --frozen-lockfile || setup_fail \
  "cannot install the packages of bun.lock (what bun said is above)" \
  "is there a network, and does a proxy need HTTPS_PROXY to be set?"
