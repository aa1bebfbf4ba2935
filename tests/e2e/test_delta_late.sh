#!/usr/bin/env bash
# test_delta_late.sh - a delta that is not ready holds nobody up: the machines begin with the full pack, and go
# over to the delta when it comes, in the middle of the fetch.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
BYTES=24000000 # the goal waits for a delta as long as the full pack takes at 4 MiB/s: 6 s
RATE=600000   # of a machine's link to the region node, while the new version comes

policy() { # FILE SERVICE BUILD-SH
    cat >"$1" <<LUA
local s = require "slipway"
return {
    service = "$2",
    build = { steps = { s.sh { [==[$3]==], timeout = "100s" } }, outputs = "out" },
    activate = { start = { "true" }, mode = "command" },
    health = { exec = { "true" }, interval = "100ms", timeout = "1s", passes = 1, within = "10s" },
    waves = { { name = "all", percent = 100 } },
}
LUA
}

new_commit() { # NAME SECONDS-OF-BUILD
    policy late.lua late "sleep $2; mkdir -p out; cp ballast.bin out/"
    COMMIT=$(commit_all "$TMP/repo" "$1")
}

# --- a control plane, one worker, a region node, machines ---

spawn serve "$ENGINE" serve --db "sqlite:$TMP/db.sqlite" --store "$TMP/store" --keys "$TMP/keys" \
    --token-file "$TMP/token" --ready-file "$TMP/serve.json"
ERR=$TMP/serve.err
check "the control plane serves" wait_for 30 test -s "$TMP/serve.json"
[ -s "$TMP/serve.json" ] || exit 1
export ENGINE_URL ENGINE_TOKEN
ENGINE_URL=http://127.0.0.1:$(jq -r .http "$TMP/serve.json") ENGINE_TOKEN=$(cat "$TMP/token")
spawn worker "$ENGINE" worker --db "sqlite:$TMP/db.sqlite" --store "$TMP/store" --work "$TMP/work"
run issue "$ENGINE" keys issue --keys "$TMP/keys" --role region --id r1 --out "$TMP/r1-id"
spawn r1 "$ENGINE" region --name r1 --identity "$TMP/r1-id" --store "$TMP/store" --data "$TMP/r1" \
    --control "127.0.0.1:$(jq -r .link "$TMP/serve.json")" --listen 127.0.0.1:0 --ready-file "$TMP/r1.json"
check "the region node serves" wait_for 30 test -s "$TMP/r1.json"
region_port=$(jq -r .link "$TMP/r1.json")

machine() { # NAME PORT
    spawn "$1" "$AGENT" run --region "127.0.0.1:$2" --identity "$TMP/$1-id" --root "$TMP/$1" --listen 127.0.0.1:0
}

slow_machine() { # NAME: behind a link of its own
    spawn "link-$1" "$ROOT/build/tools/faultnet" 0 "127.0.0.1:$region_port" --rate $RATE
    wait_for 10 has_line "$TMP/link-$1.out" '^port '
    machine "$1" "$(sed -n 's/^port //p' "$TMP/link-$1.out")"
}

MACHINES=(m1 m2 m3)
for m in "${MACHINES[@]}"; do
    run issue "$ENGINE" keys issue --keys "$TMP/keys" --role agent --id "$m" --out "$TMP/$m-id"
    machine "$m" "$region_port"
done

reachable() { [ "$("$ENGINE" regions -o json 2>/dev/null | jq '.regions[0].machines.reachable' 2>/dev/null)" = "$1" ]; }
view() { "$ENGINE" status late -o json 2>/dev/null | jq -r "$1"; }
receipt() { jq "$2" "$TMP/$1"/services/late/current/receipt.json; } # MACHINE JQ-EXPRESSION
has_bytes() { cmp -s ballast.bin "$TMP/$1/services/late/current/tree/ballast.bin"; }

check "three machines are there" wait_for 30 reachable 3
head -c $BYTES /dev/urandom >ballast.bin
new_commit one 0
run one "$ENGINE" run late.lua -o json
is "one: exit 0" "$RC $(field .machines.healthy)" "0 3"

# --- the next version, whose delta nobody has the time to make ---

for m in "${MACHINES[@]}"; do stop "$m"; done
for m in m1 m2; do slow_machine "$m"; done
for m in m1 m2; do
    check "$m is back" wait_for 30 has_line "$TMP/$m.err" 'connected to region'
done
printf 'a small change' | dd of=ballast.bin bs=1 seek=9000000 conv=notrunc status=none
policy busy.lua busy "sleep 100"
new_commit two 3
run two "$ENGINE" run late.lua --detach -o json
is "two: it is on its way" "$RC" 0
run busy "$ENGINE" run busy.lua --detach -o json # the only worker builds it before it makes deltas
is "the worker is kept busy" "$RC" 0

fetches_full() { grep -q "fetch the full pack" "$TMP/$1.err"; }
for m in m1 m2; do
    check "two: $m begins with the full pack" wait_for 60 fetches_full "$m"
done
is "two: the delta is still to be made" "$(view '.deltas | map(.state) | join(" ")')" making
run abort "$ENGINE" abort busy --reason test -o json
run follow "$ENGINE" status late -o json
is "two: nobody is done yet" "$(view '"\(.state) \(.machines.healthy)"')" "rolling 0"

delta_is() { [ "$(view '.deltas[0].state')" = "$1" ]; }
check "two: the delta is made when a worker has time" wait_for 60 delta_is ready
machine m3 "$region_port" # one that comes now
ended() { view .state | grep -qE 'succeeded|failed|rolled_back'; }
check "two: it ends" wait_for 60 ended
all_have() { has_bytes m1 && has_bytes m2 && has_bytes m3; }
check "two: the machine that came later has it, too" wait_for 30 all_have
is "two: it succeeded" "$(view .state)" succeeded
for m in m1 m2; do
    check "two: the delta joined $m's fetch" grep -q "a delta has joined" "$TMP/$m.err"
    check "two: $m moved less than the full pack" test "$(receipt $m '.seed + .peer')" -lt $((BYTES * 9 / 10))
    check "two: and a part of it" test "$(receipt $m '.seed + .peer')" -gt $((BYTES / 100))
done
check "two: m3, which had waited, moved the delta only" test "$(receipt m3 '.seed + .peer')" -lt $((BYTES / 20))
check "two: what was saved is told" test "$(view .bytes.saved_by_delta)" -ge $((BYTES / 10))

# --- a region that is gone for good ---

run refused "$ENGINE" regions forget r1 -o json
is "a region that is connected is not forgotten" "$RC $(field .error.code)" "2 conflict"
for m in "${MACHINES[@]}" link-m1 link-m2 r1; do stop "$m"; done
away() { [ "$("$ENGINE" regions -o json | jq '.regions[0].connected')" = false ]; }
check "the region is away" wait_for 30 away
run forget "$ENGINE" regions forget r1 --reason "burnt down" -o json
is "then it is" "$RC $(field '.regions | length')" "0 0"
run again "$ENGINE" regions forget r1
is "there is no such region any more" "$RC" 2
like "and that is said" "$(cat "$ERR")" 'there is no region r1'
for m in worker serve; do stop "$m"; done
check_no_leftovers
