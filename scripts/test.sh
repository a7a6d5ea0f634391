#!/bin/sh
# Sets up and runs every check and test; ends with a line "N passed, N failed".
#
#   scripts/test.sh                everything
#   scripts/test.sh test/cli       the checks, and the tests whose path contains a word
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
. "$ROOT/scripts/setup.sh"
exec bun "$ROOT/scripts/test.ts" "$@"
