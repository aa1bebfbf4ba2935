#!/usr/bin/env bash
# test_seed.sh - a swarm of its own: a seed and three machines, one of them killed and started again.
. "$(dirname "$0")/lib.sh"

fetch() { # NAME REFERENCE OPTION…: to $TMP/NAME
    local name=$1 ref=$2
    shift 2
    spawn "fetch-$name" "$AGENT" fetch "$ref" --to "$TMP/$name" --listen 127.0.0.1:0 "$@"
}

has_progress() { # NAME: some of the pack, verified
    grep -qaE '^ *([1-9]|[0-9][0-9]) %' "$TMP/fetch-$1.err"
}

head -c 12000000 /dev/urandom >"$TMP/file"
spawn seed "$ENGINE" seed "$TMP/file" --listen 127.0.0.1:0 --ref-file "$TMP/ref"
check "the seed says its reference" wait_for 30 test -s "$TMP/ref"
ref=$(cat "$TMP/ref")
is "in the file and on stdout" "$(cat "$TMP/seed.out")" "$ref"

is "the agent starts without libcurl" "$(ldd "$AGENT" | grep -c libcurl)" 0
fetch c "$ref" --limit-down 2M
check "a slow machine has begun" wait_for 30 has_progress c
stop fetch-c KILL
check "killed, it has nothing at the place" test ! -e "$TMP/c"
bits=$(od -An -v -tx1 "$TMP"/c.slipway/packs/*.bitmap | tr -d ' \n0')
check "and remembers what was verified" test -n "$bits"

fetch a "$ref" --seed-for forever
fetch b "$ref" --seed-for forever
fetch c "$ref"
join fetch-c
is "started again, it succeeds" "$RC" 0
for name in a b; do
    check "$name has the file" wait_for 60 test -e "$TMP/$name"
    check "with the right bytes" cmp "$TMP/file" "$TMP/$name"
done
check "c has the right bytes" cmp "$TMP/file" "$TMP/c"
check "nothing else is left there" test ! -e "$TMP/c.slipway"

run again "$AGENT" fetch "$ref" --to "$TMP/c"
is "what is there is not overwritten" "$RC" 1
like "and that is said" "$(cat "$ERR")" "is there already"

pin=${ref#*#}
[ "${pin:0:1}" = 0 ] && other=1 || other=0
run wrong-pin "$AGENT" fetch "${ref%%#*}#$other${pin:1}" --to "$TMP/d"
is "a wrong pin is refused" "$RC" 1
like "by name" "$(cat "$ERR")" "not the cluster that the pin names"
[ "${ref: -1}" = 0 ] && other=1 || other=0
run wrong-secret "$AGENT" fetch "${ref%?}$other" --to "$TMP/d"
is "a wrong secret, too" "$RC" 1
like "by name" "$(cat "$ERR")" "the secret is wrong"
check "and nothing is there" test ! -e "$TMP/d"

stop fetch-b KILL
cp "$TMP/b" "$TMP/kept"
dd if="$TMP/file" bs=1 skip=5000000 count=1 status=none | tr '\000-\377' '\001-\377\000' |
    dd of="$TMP/b" bs=1 seek=5000000 conv=notrunc status=none
run edited "$AGENT" fetch "$ref" --to "$TMP/b" --listen 127.0.0.1:0 --seed-for forever
is "killed while it gave, and changed by its owner: not complete" "$RC" 1
like "which is said, with a remedy" "$(cat "$ERR")" "changed since; nothing is overwritten: move it away"
is "and what its owner has changed is left alone" "$(cmp -l "$TMP/file" "$TMP/b" | wc -l)" 1
cp "$TMP/kept" "$TMP/b"
fetch b "$ref" --seed-for forever
check "as it was, it is given again" wait_for 30 grep -q "12000... bytes\|117..... bytes" "$TMP/fetch-b.out"
like "because it was compared" "$(cat "$TMP/fetch-b.err")" "is as it was fetched"
stop fetch-b KILL
rm "$TMP/b"
fetch b "$ref" --seed-for forever
check "removed by its owner, it is fetched anew" wait_for 60 cmp -s "$TMP/file" "$TMP/b"

if [ "$(id -u)" = 0 ] && mkdir "$TMP/small" && mount -t tmpfs -o size=8m tmpfs "$TMP/small" 2>/dev/null; then
    run full "$AGENT" fetch "$ref" --to "$TMP/small/x" --listen 127.0.0.1:0
    is "a full disk ends it" "$RC" 1
    like "in clear words" "$(cat "$ERR")" "[Nn]o space"
    check "and nothing is at the place" test ! -e "$TMP/small/x"
    mount -o remount,size=64m "$TMP/small"
    run full "$AGENT" fetch "$ref" --to "$TMP/small/x" --listen 127.0.0.1:0
    is "with room it goes on" "$RC $(cmp "$TMP/file" "$TMP/small/x" && echo same)" "0 same"
    umount "$TMP/small"
fi

stop seed
is "the seed stops cleanly" "$RC" 0
stop fetch-a
is "and so does a machine that seeds" "$RC" 0

mkdir -p "$TMP/tree/bin/deep"
head -c 5000000 /dev/urandom >"$TMP/tree/bin/big"
seq 100000 >"$TMP/tree/text"
: >"$TMP/tree/empty"
ln -s ../text "$TMP/tree/bin/link"
chmod 755 "$TMP/tree/bin/big"
spawn seed "$ENGINE" seed "$TMP/tree" --listen 127.0.0.1:0 --ref-file "$TMP/ref2"
check "a seed of a tree" wait_for 30 test -s "$TMP/ref2"
run tree "$AGENT" fetch "$(cat "$TMP/ref2")" --to "$TMP/copy" --listen 127.0.0.1:0
is "is fetched" "$RC" 0
check "with the same content" diff -r --no-dereference "$TMP/tree" "$TMP/copy"
is "and modes" "$(stat -c %a "$TMP/copy/bin/big")" 755

mkdir -p "$TMP/raw/x"
head -c 4500000 /dev/urandom >"$TMP/raw/a"
head -c 5000000 /dev/urandom >"$TMP/raw/x/b"
: >"$TMP/raw/x/empty"
chmod 555 "$TMP/raw/x/b"
spawn raw "$ENGINE" seed "$TMP/raw" --listen 127.0.0.1:0 --ref-file "$TMP/ref3"
check "a seed of a tree that does not compress" wait_for 30 test -s "$TMP/ref3"
fetch slow "$(cat "$TMP/ref3")" --limit-down 2M
check "a slow machine has begun" wait_for 30 has_progress slow
stop fetch-slow KILL
run raw-copy "$AGENT" fetch "$(cat "$TMP/ref3")" --to "$TMP/slow" --listen 127.0.0.1:0 -o json
is "killed, it goes on" "$RC" 0
check "with the same content" diff -r --no-dereference "$TMP/raw" "$TMP/slow"
is "and modes" "$(stat -c %a "$TMP/slow/x/b")" 555
stop raw

stop seed
stop fetch-b
check_no_leftovers
