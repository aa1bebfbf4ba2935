#!/usr/bin/env bash
# test_two_serves.sh - two control planes on one PostgreSQL: one conducts at a time, and one that was asleep
# finds that its duty is the other's.
. "$(dirname "$0")/fleet.sh"
has_postgres || skip_all "PostgreSQL is not installed"
start_postgres || { not_ok "PostgreSQL starts"; exit 1; }
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
write_policy two.lua hello "$(build_hello)"
sed -i 's/{ name = "canary", count = 1 }/{ name = "canary", count = 1, bake = "10m" }/' two.lua
COMMIT=$(commit_all "$TMP/repo" two)

spawn_deploy run two.lua --regions 2 --agents 2 --db "$PG_URL"
check "it rolls" wait_for 60 in_state rolling
spawn second "$ENGINE" serve --db "$PG_URL" --store "$STATE/store" --keys "$STATE/keys" \
    --token-file "$STATE/admin.token" --ready-file "$TMP/second.json"
check "a second control plane serves" wait_for 30 test -s "$TMP/second.json"

export ENGINE_URL ENGINE_TOKEN
ENGINE_URL=http://127.0.0.1:$(jq -r .http "$TMP/second.json") ENGINE_TOKEN=$(cat "$STATE/admin.token")
run pause "$ENGINE" pause -o json
is "the second takes acts that the first obeys" "$RC $(field .state)" "0 held"
asleep=$(child_pid serve)
kill -STOP "$asleep"
resumed() {
    run resume "$ENGINE" resume -o json
    [ "$RC" = 0 ] || [ "$(field .error.code)" = conflict ]
}
check "the first sleeps: the second conducts" wait_for 40 resumed
run status "$ENGINE" status hello -o json
is "and goes on" "$(field .state)" rolling
kill -CONT "$asleep"
bakes() {
    [ "$("$ENGINE" status hello -o json | jq -r '.waves[0].state')" = baking ]
}
check "the regions come back to the first" wait_for 60 bakes
run skip "$ENGINE" skip-bake -o json
is "the second is still obeyed" "$RC" 0
unset ENGINE_URL ENGINE_TOKEN
join run
is "the deployment ends" "$RC $(field .state)" "0 succeeded"
is "every machine has the commit" "$(machines_not_on "$COMMIT")" 0
like "the first has noticed" "$(cat "$STATE/logs/serve.log")" "somebody else's now"
stop second
stop_postgres
check_no_leftovers
