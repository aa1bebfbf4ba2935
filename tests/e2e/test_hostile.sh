#!/usr/bin/env bash
# test_hostile.sh - half of a swarm means harm, with valid certificates: everyone honest gets the right bytes, in
# bounded memory, and the operator sees who was banned.
. "$(dirname "$0")/lib.sh"
HOSTILE=$ROOT/build/tools/hostile_peer
MODES=(flip truncate stall silent lie flood oversized unknown repeat crowd)
HONEST=(1 2 3 4 5 6 7 8 9)
MEMORY_KB=100000 # of a process: what 12 MB of file and all buffers take, and none of what is thrown at it

head -c 12000000 /dev/urandom >"$TMP/file"
spawn seed "$ENGINE" seed -o json "$TMP/file" --listen 127.0.0.1:0 --ref-file "$TMP/ref" --limit-up 4000000
check "the seed says its reference" wait_for 30 test -s "$TMP/ref"
ref=$(cat "$TMP/ref")
is "as JSON, too" "$(head -n 1 "$TMP/seed.out" | jq -r .reference)" "$ref"

# All but the crowd, which is to meet those that are there.
for mode in "${MODES[@]}"; do
    [ "$mode" = crowd ] || spawn "h-$mode" "$HOSTILE" "$mode" "$ref" 127.0.0.1:0 "$TMP/h-$mode"
done
for mode in "${MODES[@]}"; do
    [ "$mode" = crowd ] || check "$mode is in the swarm" wait_for 30 grep -q ready "$TMP/h-$mode.out"
done
for i in "${HONEST[@]}"; do
    spawn "m$i" "$AGENT" fetch "$ref" --to "$TMP/m$i" --listen 127.0.0.1:0 --seed-for forever -o json --quiet
done
spawn h-crowd "$HOSTILE" crowd "$ref" 127.0.0.1:0 "$TMP/h-crowd"

high_water() { # NAME
    sed -nE 's/^VmHWM:\s*([0-9]+) kB$/\1/p' "/proc/${spawned[$1]}/status"
}

for i in "${HONEST[@]}"; do
    check "machine $i has the file" wait_for 120 test -e "$TMP/m$i"
    check "with the right bytes" cmp "$TMP/file" "$TMP/m$i"
done
for name in seed m1 m2 m3 m4 m5 m6 m7 m8 m9; do
    check "$name has bounded memory" [ "$(high_water "$name")" -lt $MEMORY_KB ]
done
for mode in "${MODES[@]}"; do stop "h-$mode" KILL; done
for i in "${HONEST[@]}"; do
    stop "m$i"
    is "machine $i stops cleanly" "$RC" 0
done
stop seed
is "and so does the seed" "$RC" 0

total() { # FIELD: of the last line of all honest ones
    for i in "${HONEST[@]}"; do tail -n 1 "$TMP/m$i.out"; done | jq -s "map(.$1) | add"
}
echo "# machines: $(total banned) banned, $(total bad_leaves) bad leaves, $(total malformed) malformed, $(total refused) refused"
echo "# seed: $(tail -n 1 "$TMP/seed.out")"
check "those who gave wrong leaves are counted" [ "$(total bad_leaves)" -ge 2 ]
check "and banned" [ "$(total banned)" -ge 1 ]
check "also those who gave again and again what nobody asked for" \
    grep -q "leaves that nobody asked it for" "$TMP"/m?.err "$TMP/seed.err"
check "by the seed, too, who sent it what is no message" [ "$(tail -n 1 "$TMP/seed.out" | jq .banned)" -ge 2 ]
check "which it counts" [ "$(tail -n 1 "$TMP/seed.out" | jq .malformed)" -ge 6 ]
check "and whom it refused" [ "$(tail -n 1 "$TMP/seed.out" | jq .refused)" -ge 1 ]
check "the seed is told whom the machines have banned" \
    [ "$(tail -n 1 "$TMP/seed.out" | jq '[.swarm.offenders[] | select(.banned_by >= 1)] | length')" -ge 1 ]
check "and how it went for those who meant well" [ "$(tail -n 1 "$TMP/seed.out" | jq .swarm.fetched)" = 9 ]
check "and says so while it runs" grep -q '"event":"offenders"' "$TMP/seed.out"
check_no_leftovers
