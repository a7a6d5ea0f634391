#!/bin/sh
# Starts a Docker daemon for the tests, in a folder of its own, and prints its DOCKER_HOST.
#
#   DOCKER_HOST=$(scripts/container/daemon.sh $$)
#
# It ends, and its folder goes, when the process with the given number ends. Needs root. Prints
# nothing and fails, with the reason on stderr, when no daemon can run here.
set -eu
owner=$1
limit_s=${2:-30}

command -v dockerd >/dev/null 2>&1 || { echo "no docker daemon: dockerd is not installed" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "no docker daemon: only root can start one" >&2; exit 1; }

# Short: the path of a socket has at most 107 bytes.
dir=$(mktemp -d /tmp/llmnode-docker-XXXXXX)

# Runs the daemon until it ends or the owner has, then clears up. Holds no pipe of the caller.
keep() {
  dockerd --host "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/exec" \
    --pidfile "$dir/docker.pid" --storage-driver "$1" >"$dir/dockerd.log" 2>&1 </dev/null &
  daemon=$!
  while kill -0 "$owner" 2>/dev/null && kill -0 "$daemon" 2>/dev/null && [ ! -e "$dir/stop" ]; do
    sleep 1
  done
  kill "$daemon" 2>/dev/null || true
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$daemon" 2>/dev/null || break
    sleep 1
  done
  kill -9 "$daemon" 2>/dev/null || true
  kill -0 "$owner" 2>/dev/null && return
  # What it leaves mounted would keep its folder.
  awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mounted; do umount -l "$mounted"; done
  rm -rf "$dir"
}

for driver in overlay2 vfs; do
  (keep "$driver") >/dev/null 2>&1 </dev/null &
  keeper=$!
  waited=0
  while [ "$waited" -lt "$limit_s" ] && kill -0 "$keeper" 2>/dev/null; do
    if DOCKER_HOST="unix://$dir/docker.sock" timeout 5 docker version >/dev/null 2>&1; then
      echo "unix://$dir/docker.sock"
      exit 0
    fi
    sleep 1
    waited=$((waited + 1))
  done
  : >"$dir/stop"
  while kill -0 "$keeper" 2>/dev/null; do sleep 1; done
  rm -f "$dir/stop"
  reason=$(grep -E 'level=(error|fatal)|^failed' "$dir/dockerd.log" 2>/dev/null | tail -1 || true)
done
rm -rf "$dir"
echo "no docker daemon: ${reason:-it did not answer within $limit_s s}" >&2
exit 1
