#!/usr/bin/env bash
# Profiles demo/loop.js for five seconds and shows the tree: demo.sh NODETAP [SUDO].
set -euo pipefail
nodetap=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)

if ! command -v node >/dev/null; then
    echo "error: there is no node in the PATH" >&2
    echo "hint: install Node.js 18 or later" >&2
    exit 1
fi
node "$here/demo/loop.js" >/dev/null &
program=$!
trap 'kill "$program" 2>/dev/null || true' EXIT
sleep 0.5 # it is to run, not to start

echo "\$ ${*:+$* }nodetap sample $program text 5"
"$@" "$nodetap" sample "$program" text 5
