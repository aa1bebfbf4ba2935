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
# What costs most is named, with the reason: by make, and by info.
head -c 3000000 /dev/urandom | gzip -1 >"$TMP/old/share/lib.so.gz"
head -c 3000000 /dev/urandom | gzip -1 >"$TMP/new/share/lib.so.gz"
run costs "$ENGINE" delta make -o json "$TMP/old" "$TMP/new" "$TMP/pack"
is "the dearest file is named" "$(jq -r '.most_bytes[0].path' "$OUT")" share/lib.so.gz
is "and that it is compressed" "$(jq -r '.most_bytes[0].packed' "$OUT")" gzip
is "segments by kind" "$(jq '[.segments_by_kind[].segments] | add == $s' --argjson s "$(jq .segments "$OUT")" "$OUT")" true
run costs "$ENGINE" delta info "$TMP/pack"
like "info says what to do" "$(cat "$OUT")" 'lib.so.gz: gzip: a delta of it can.t help; deploy it uncompressed'

# Interrupted, nothing half made is left; what is there is replaced only by what is whole.
echo before >"$TMP/there"
mkfifo "$TMP/line"
"$ENGINE" delta make --level 19 --progress tty "$TMP/old" "$TMP/new" "$TMP/there" 2>"$TMP/line" >/dev/null &
pid=$!
exec 9<"$TMP/line"
while IFS= read -r -d % -u 9 text; do case $text in *encode*) break ;; esac done
kill -INT "$pid"
cat <&9 >/dev/null
wait "$pid"
is "interrupted: exit 130" "$?" 130
exec 9<&-
is "the file that was there is as it was" "$(cat "$TMP/there")" before
is "and nothing is beside it" "$(find "$TMP" -maxdepth 1 -name 'there.*')" ""

# Errors name the operand, and what to do.
run missing "$ENGINE" delta make "$TMP/nope" "$TMP/new" "$TMP/p"
is "no base: exit 2" "$RC" 2
like "it is named" "$(cat "$ERR")" 'BASE .*/nope: No such file'
run itself "$ENGINE" delta make "$TMP/old/share/data" "$TMP/new/share/data" "$TMP/new/share/data"
is "the pack would replace the target: exit 2" "$RC" 2
like "it says so" "$(cat "$ERR")" 'is TARGET itself'
run inside "$ENGINE" delta make "$TMP/old" "$TMP/new" "$TMP/new/pack"
like "the pack would lie in the target" "$(cat "$ERR")" 'inside TARGET'
for threads in 0 65 -1; do
    run threads "$ENGINE" delta make --threads "$threads" "$TMP/old" "$TMP/new" "$TMP/p"
    is "--threads $threads: exit 2" "$RC" 2
    like "and what it may be" "$(cat "$ERR")" "--threads $threads: it is 1 to 64"
done
run level "$ENGINE" delta make --level abc a b c
like "an option is called what it was called" "$(cat "$ERR")" '--level needs N'

run usage "$ENGINE" delta frobnicate x
is "an unknown verb: exit 2" "$RC" 2
run level "$ENGINE" delta make --level 20 a b c
is "an unknown level: exit 2" "$RC" 2
run level "$ENGINE" delta apply --level 9 "$TMP/old" "$TMP/pack" "$TMP/no"
like "apply has no level" "$RC $(cat "$ERR")" '^2 .*--level is for delta make'
mkfifo "$TMP/fifo"
ln -s "$TMP/pack" "$TMP/link"
for there in fifo link; do
    run there "$ENGINE" delta make "$TMP/old" "$TMP/new" "$TMP/$there"
    like "a pack does not replace a $there" "$RC $(cat "$ERR")" "^2 .*PACK $TMP/$there is there, and no file"
done
check "they are what they were" test -p "$TMP/fifo" -a -h "$TMP/link"
run fifo "$ENGINE" delta make "$TMP/fifo" "$TMP/new" "$TMP/no"
like "nobody waits for a fifo" "$RC $(cat "$ERR")" '^2 .*fifo: is a fifo'
run fifo "$ENGINE" delta info "$TMP/fifo"
like "nor for a pack in one" "$RC $(cat "$ERR")" '^2 .*is no file'
