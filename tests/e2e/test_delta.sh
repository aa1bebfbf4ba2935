#!/usr/bin/env bash
# test_delta.sh - engine delta on its own binaries and on trees: made, told about, applied, killed,
# applied to the wrong base, damaged.
. "$(dirname "$0")/lib.sh"

mkdir -p "$TMP/old/bin" "$TMP/old/share"
cp "$ENGINE" "$TMP/old/bin/engine"
head -c 9000000 /dev/urandom >"$TMP/old/share/data"
echo same >"$TMP/old/share/same"
ln -s bin/engine "$TMP/old/start"
cp -r "$TMP/old" "$TMP/new"
printf 'a little different' | dd of="$TMP/new/share/data" bs=1 seek=4500000 conv=notrunc 2>/dev/null
tail -c 5000000 "$TMP/old/share/data" >"$TMP/new/share/part"
strip "$TMP/new/bin/engine" 2>/dev/null

# Two files are versions of one thing, whatever they are called.
run renamed "$ENGINE" delta make -o json "$TMP/old/share/data" "$TMP/new/share/data" "$TMP/same-name.pack"
cp "$TMP/new/share/data" "$TMP/data-2"
run renamed "$ENGINE" delta make -o json "$TMP/old/share/data" "$TMP/data-2" "$TMP/renamed.pack"
is "one file under another name: exit 0" "$RC" 0
is "it is told as a difference" "$(($(stat -c %s "$TMP/renamed.pack") < 2000))" 1

run make "$ENGINE" delta make --level 3 -o json "$TMP/old" "$TMP/new" "$TMP/pack"
is "make: exit 0" "$RC" 0
is "it is a delta" "$(jq -r .kind "$OUT")" delta
run info "$ENGINE" delta info -o json "$TMP/pack"
is "info: the pack's bytes" "$(jq .file_bytes "$OUT")" "$(stat -c %s "$TMP/pack")"
run apply "$ENGINE" delta apply "$TMP/old" "$TMP/pack" "$TMP/out"
is "apply: exit 0" "$RC" 0
run diff diff -r --no-dereference "$TMP/new" "$TMP/out"
is "it makes the new tree" "$RC" 0
is "what did not change is a link" "$(stat -c %i "$TMP/out/share/same")" "$(stat -c %i "$TMP/old/share/same")"

# Killed at any time, it continues.
for delay in 0.01 0.02 0.04 0.08; do
    timeout -s KILL "$delay" "$ENGINE" delta apply "$TMP/old" "$TMP/pack" "$TMP/killed" >/dev/null 2>&1
done
[ -e "$TMP/killed" ] || run again "$ENGINE" delta apply "$TMP/old" "$TMP/pack" "$TMP/killed"
run diff diff -r --no-dereference "$TMP/new" "$TMP/killed"
is "after kill -9 the same tree" "$RC" 0

run file "$ENGINE" delta make "$TMP/old/bin/engine" "$TMP/new/bin/engine" "$TMP/file-pack"
is "one file: exit 0" "$RC" 0
run file "$ENGINE" delta apply "$TMP/old/bin/engine" "$TMP/file-pack" "$TMP/file"
run cmp cmp "$TMP/file" "$TMP/new/bin/engine"
is "and it is made" "$RC" 0
run full "$ENGINE" delta make - "$TMP/new" "$TMP/full-pack"
run full "$ENGINE" delta apply - "$TMP/full-pack" "$TMP/full"
run diff diff -r --no-dereference "$TMP/new" "$TMP/full"
is "without a base: a full pack" "$RC" 0

run again "$ENGINE" delta apply "$TMP/old" "$TMP/pack" "$TMP/out"
is "a target that exists: exit 2 or 1" "$((RC == 1 || RC == 2))" 1
like "and it is named" "$(cat "$ERR")" 'there already'
echo x >>"$TMP/old/share/same"
run base "$ENGINE" delta apply "$TMP/old" "$TMP/pack" "$TMP/wrong"
is "another base: exit 2" "$RC" 2
like "and says so" "$(cat "$ERR")" 'another base'
head -c 3000 "$TMP/full-pack" >"$TMP/short"
run short "$ENGINE" delta apply - "$TMP/short" "$TMP/wrong"
is "a pack that was cut: not 0" "$((RC != 0))" 1
is "and nothing is there" "$(ls -d "$TMP/wrong" 2>/dev/null)" ""
run usage "$ENGINE" delta frobnicate x
is "an unknown verb: exit 2" "$RC" 2
run level "$ENGINE" delta make --level 20 a b c
is "an unknown level: exit 2" "$RC" 2
