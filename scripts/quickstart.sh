#!/bin/sh
# Sets up, builds llmnode, and shows it: a head, two workers on simulated engines, a first answer.
#
#   scripts/quickstart.sh          stays up until Ctrl-C
#   scripts/quickstart.sh --once   ends after the answer
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
. "$ROOT/scripts/setup.sh"
bun "$ROOT/scripts/build.ts" --if-stale
exec bun "$ROOT/scripts/quickstart.ts" "$@"
