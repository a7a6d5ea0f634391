#!/bin/sh
# Builds an image of the compiled binary.
#
#   scripts/container/build.sh              the image llmnode:latest
#   scripts/container/build.sh me/llmnode:1
#   LLMNODE_BINARY=... scripts/container/build.sh      of another binary
set -eu
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
tag=${1:-llmnode:latest}
binary=${LLMNODE_BINARY:-$ROOT/dist/llmnode}
[ -x "$binary" ] || { echo "there is no $binary: build it with scripts/run.sh build" >&2; exit 1; }

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir -p "$context/root/bin" "$context/root/tmp" "$context/data"
chmod 1777 "$context/root/tmp"
cp "$binary" "$context/root/bin/llmnode"
# What the dynamic linker loads, at the paths where it looks for it.
for library in $(ldd "$binary" | grep -o '/[^ )]*'); do
  mkdir -p "$context/root$(dirname "$library")"
  cp -L "$library" "$context/root$library"
done
# For a head behind public TLS; an image without them trusts nobody.
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  mkdir -p "$context/root/etc/ssl/certs"
  cp -L /etc/ssl/certs/ca-certificates.crt "$context/root/etc/ssl/certs/"
fi
cp "$ROOT/scripts/container/Dockerfile" "$context/"
docker build -q -t "$tag" "$context"
