#!/usr/bin/env bash
# Installs what building nodetap needs and this machine lacks, and nothing else.
# Debian and Ubuntu; elsewhere it says what to install by hand. With `tests` it is what
# testing needs besides, with `bench` what nodetap is compared with.
set -euo pipefail

missing=()
command -v clang >/dev/null || missing+=(clang)
# Rust links with cc; a static binary needs the C library's archive.
command -v cc >/dev/null || missing+=(gcc)
[ -e "$(cc -print-file-name=libc.a 2>/dev/null)" ] || missing+=(libc6-dev)
# gdb unwinds the same stacks as nodetap; and core files come from its gcore where the
# kernel does not leave them in the process's folder.
if [ "${1-}" = tests ]; then
    # `go tool pprof` reads what we write for it.
    command -v go >/dev/null || missing+=(golang-go)
    command -v gdb >/dev/null || missing+=(gdb)
    # Pages are looked at in a browser.
    command -v chromium chromium-browser google-chrome >/dev/null || missing+=(chromium)
fi
if [ "${1-}" = bench ]; then
    command -v perf >/dev/null || missing+=(linux-perf)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

echo "nodetap: installing ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "error: this needs ${missing[*]}" >&2
    echo "hint: install them with this system's package manager" >&2
    exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
