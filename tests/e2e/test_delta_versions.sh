#!/usr/bin/env bash
# test_delta_versions.sh - machines on different versions move to one: each fetches what its own files do
# not give, the figures add up though an agent is killed in the middle, and going back fetches nothing.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
HALF=16000000

# Two files of our own: each version changes one of them.
new_commit() { # NAME [MORE-LUA] [MORE-BUILD]
    write_policy "$TMP/repo/versions.lua" hello "$(build_hello 0); cp a.bin b.bin out/; ${3:-}" "${2:-}"
    COMMIT=$(commit_all "$TMP/repo" "$1")
}

put() { # FILE OFFSET TEXT: overwrites
    printf '%s' "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

on_commit() { # MACHINE: has it, with the very bytes
    local tree
    tree=$(machine_root "$1")/services/hello/current/tree
    grep -qsaF "$COMMIT" "${tree%tree}release.doc" && cmp -s a.bin "$tree/a.bin" && cmp -s b.bin "$tree/b.bin"
}

# What the release that MACHINE runs has cost it: percent of both files.
cost() { # MACHINE
    jq "100 * (.seed + .peer) / (2 * $HALF) | floor" "$(machine_root "$1")/services/hello/current/receipt.json"
}

sum() { # JQ-EXPRESSION: of all machines' receipts
    jq -s "map($1) | add" "$STATE"/machines/*/root/services/hello/current/receipt.json
}

head -c $HALF /dev/urandom >a.bin
head -c $HALF /dev/urandom >b.bin
new_commit one
deploy one versions.lua --regions 2 --agents 2
is "one: exit 0" "$RC $(field .machines.healthy)" "0 4"
is "one: the sums are those of the machines" "$(field '.bytes.seed + .bytes.peer')" "$(sum '.seed + .peer')"

# One machine is left behind.
put a.bin 5000000 "a change of a"
new_commit two 'select = s.none { s.label("machine").is("r1-m1") },'
deploy two versions.lua
is "two: exit 0" "$RC $(field .machines.healthy)" "0 3"

# And two are new.
put b.bin 9000000 "a change of b"
new_commit three
spawn_deploy three versions.lua --agents 3

check "three: it rolls out" wait_for 90 in_state 'rolling|succeeded'
kill_child r2-m1
join three
is "three: exit 0" "$RC" 0
is "three: all healthy" "$(field '"\(.machines.healthy) \(.machines.total)"')" "6 6"
wrong=0
for m in r1-m1 r1-m2 r1-m3 r2-m1 r2-m2 r2-m3; do on_commit $m || wrong=$((wrong + 1)); done
is "three: every machine has the bytes" "$wrong" 0
check "three: from the version before: what changed" test "$(cost r1-m2)" -lt 5
check "three: that of a killed agent, too" test "$(cost r2-m1)" -lt 5
# Of 8 segments 4 have bytes of a.bin, and the last one the program; there may be a delta for it, too.
check "three: two versions behind: what its files do not give" test "$(cost r1-m1)" -lt 75
all_of_it() { jq -s "100 * (map(.seed + .peer) | add) / (2 * $HALF) | floor" "$(machine_root "$1")"/services/hello/releases/*/receipt.json; }
check "three: a new machine: all of it, for the version that it met first" test "$(all_of_it r1-m3)" -ge 95
is "three: the sums are those of the machines" "$(field '.bytes.seed + .bytes.peer')" "$(sum '.seed + .peer')"
is "three: saved, too" "$(field .bytes.saved_by_delta)" "$(sum .saved)"

# One that is sick: the canary goes back to what it has on disk.
fetches() { cat "$STATE"/logs/r?-m?.log | grep -c ': fetch '; }
put a.bin 6000000 "a sick change"
new_commit sick '' 'printf "#!/bin/sh\nexit 1\n" >out/bin/hello'
deploy sick versions.lua
is "sick: rolled back" "$RC $(field .state)" "4 rolled_back"
git -C "$TMP/repo" checkout -q HEAD~1 -- a.bin
COMMIT=$(git -C "$TMP/repo" rev-parse HEAD~1)
wrong=0
for m in r1-m1 r1-m2 r1-m3 r2-m1 r2-m2 r2-m3; do on_commit $m || wrong=$((wrong + 1)); done
is "sick: every machine runs the one before" "$wrong" 0

# Back to the version before, by hand: only the machine that was left behind has never had it.
before=$(fetches)
git -C "$TMP/repo" checkout -q HEAD~2 -- a.bin b.bin
COMMIT=$(git -C "$TMP/repo" rev-parse HEAD~2)
git -C "$TMP/repo" checkout -q HEAD~2 -- versions.lua
deploy back versions.lua --commit "$COMMIT"
is "back: exit 0" "$RC $(field .machines.healthy)" "0 5"
is "back: on it" "$(on_commit r1-m2 && on_commit r2-m1 && on_commit r1-m3 && echo yes)" yes
check "back: who has had it fetches nothing" test $(($(fetches) - before)) -le 1
check_no_leftovers
