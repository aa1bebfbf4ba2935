#!/usr/bin/env bash
# test_make.sh - the Makefile notices what changes, and only that; install puts things in place.
. "$(dirname "$0")/lib.sh"

# A small house: enough to be built in a second.
tree=$TMP/tree
mkdir -p "$tree/engine" "$tree/scripts" "$tree/policies/slipway"
cp Makefile "$tree/"
cp scripts/embed.lua "$tree/scripts/"
cp -r engine/base "$tree/engine/"
echo 'int main(void) { return 0; }' >"$tree/engine/main.c"
echo 'return 1' >"$tree/policies/slipway/init.lua"
export MAKEFLAGS=
build() { # NAME
    run "make-$1" make -C "$tree" --no-print-directory all
    is "$1: make succeeds" "$RC" 0
    said=$(awk '{ print $1, $2 }' "$OUT" | sort | tr '\n' ';')
}

build first
build again
is "again: nothing is done" "$said" ""

touch "$tree/engine/base/hex.h"
build header
is "header: its users are compiled" "$said" \
    "cc engine/base/hex.c;cc engine/base/sha256.c;link build/engine;"

echo 'return 2' >"$tree/policies/slipway/init.lua"
build embedded
is "embedded: a changed file is embedded again" "$said" "embed build/embedded.c;link build/engine;"
rm "$tree/policies/slipway/init.lua"
build removed
is "removed: a file that is gone is not embedded any more" \
    "$(grep -c slipway/init.lua "$tree/build/embedded.c")" 0

mv "$tree/engine/base/hex.c" "$TMP/hex.c"
build source
is "source: one that is gone leaves the library" \
    "$(ar t "$tree/build/libslipway.a" | grep -c '^hex.o$')" 0

run flags make -C "$tree" --no-print-directory all CPPFLAGS="-D_GNU_SOURCE -Iengine -DNEW"
like "flags: new ones compile everything" "$(cat "$OUT")" "cc +engine/base/buf.c"

run clean make -C "$tree" clean
check "clean: nothing is left" test ! -e "$tree/build"

run install make --no-print-directory install DESTDIR="$TMP/dest" PREFIX=/opt/slipway
is "install: succeeds" "$RC" 0
for program in build/engine build/engine-agent; do
    [ ! -e "$program" ] ||
        check "install: $program" cmp "$program" "$TMP/dest/opt/slipway/bin/$(basename $program)"
done
check "install: the Lua library" test -s "$TMP/dest/opt/slipway/share/slipway/policies/slipway/types.lua"
