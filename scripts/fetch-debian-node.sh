#!/usr/bin/env bash
# Brings Debian 12's own Node.js, whose V8 is a shared library without symbols, into
# the cache: $NODETAP_CACHE/debian-node/root, a folder to chroot into. The packages
# come from this machine's package sources; where those are not Debian 12's there is
# nothing to bring, and the tests of it say that they did not run.
set -euo pipefail
folder=${NODETAP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodetap}/debian-node
packages=(libnode108 libbrotli1 libc-ares2 libc6 libgcc-s1 libicu72 libnghttp2-14 libssl3
    libstdc++6 libuv1 zlib1g node-acorn node-cjs-module-lexer node-undici)

# The folder gets its name last, so a fetch that was cut short is done again.
[ ! -e "$folder/root/usr/bin/node" ] || exit 0
if ! command -v apt-get >/dev/null || ! apt-cache show libnode108 >/dev/null 2>&1; then
    echo "nodetap: no libnode108 among this machine's packages, so it is not tested"
    exit 0
fi
echo "nodetap: fetching Debian's Node.js"
mkdir -p "$folder"
work=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/packages" "$work/root/dev" "$work/root/proc" "$work/root/srv"
# As new as the library; another source may have a newer one of the same name.
version=$(apt-cache show --no-all-versions libnode108 | sed -n 's/^Version: //p')
if ! (cd "$work/packages" &&
    apt-get download -qq -o APT::Sandbox::User=root "nodejs=$version" "${packages[@]}"); then
    echo "nodetap: Debian's Node.js cannot be fetched, so it is not tested"
    exit 0
fi
for package in "$work"/packages/*.deb; do
    dpkg-deb -x "$package" "$work/root"
done
rm -rf "$folder/root"
mv "$work/root" "$folder/root"
