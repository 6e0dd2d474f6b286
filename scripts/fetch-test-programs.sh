#!/usr/bin/env bash
# Installs the real programs that the tests profile into the cache, as the lock file
# beside their package.json pins them: $NODETAP_CACHE/programs/node_modules. Or those that
# another folder's lock file pins: fetch-test-programs.sh FOLDER NAME, which go to
# $NODETAP_CACHE/NAME/node_modules.
set -euo pipefail
pinned=$(cd "${1-$(dirname "$0")/../crates/nodetap/tests/fixtures/npm}" && pwd)
programs=${NODETAP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodetap}/${2-programs}

# The stamp is written last, so an install that was cut short is done again.
cmp -s "$pinned/package-lock.json" "$programs/installed-lock.json" && exit 0
echo "nodetap: installing the ${2-test programs}"
mkdir -p "$programs"
rm -f "$programs/installed-lock.json"
cp "$pinned/package.json" "$pinned/package-lock.json" "$programs/"
(cd "$programs" && npm ci --silent --ignore-scripts --no-audit --no-fund)
cp "$pinned/package-lock.json" "$programs/installed-lock.json"
