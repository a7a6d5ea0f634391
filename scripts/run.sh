#!/bin/sh
# Runs one of the scripts here with the pinned Bun, which is fetched if it is not there.
#
#   scripts/run.sh bench front     as `bun scripts/bench.ts front`
#   scripts/run.sh                 which scripts there are
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
name=${1:-}
case $name in
  "" | -* | */* | *.*) name="" ;;
  *) [ -f "$ROOT/scripts/$name.ts" ] || name="" ;;
esac
if [ -z "$name" ]; then
  echo "usage: scripts/run.sh <script> [arguments]; there are:" >&2
  for file in "$ROOT"/scripts/*.ts; do echo "  $(basename "$file" .ts)" >&2; done
  exit 2
fi
shift
. "$ROOT/scripts/setup.sh"
exec bun "$ROOT/scripts/$name.ts" "$@"
