#!/bin/sh
# Sets up, builds, and runs the suites of test/more: real servers, clients and engines around the
# compiled binary. Ends with a line "N passed, N failed".
#
#   scripts/test-more.sh           all suites
#   scripts/test-more.sh nginx     one of them
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
. "$ROOT/scripts/setup.sh"
exec bun "$ROOT/scripts/test-more.ts" "$@"
