#!/usr/bin/env bash
# test_postgres.sh - the same flow on PostgreSQL, and through a crash of the database.
. "$(dirname "$0")/fleet.sh"
has_postgres || skip_all "PostgreSQL is not installed"
start_postgres || { not_ok "PostgreSQL starts"; exit 1; }
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
fleet=(--regions 2 --agents 2 --db "$PG_URL")

deploy first policies/quickstart.lua "${fleet[@]}"
is "the first deployment exits 0" "$RC" 0
is "all machines are healthy" "$(field '"\(.machines.healthy) \(.machines.total)"')" "4 4"
check "nothing was kept in SQLite" test ! -e "$STATE/db.sqlite"
deploy again policies/quickstart.lua "${fleet[@]}"
like "again: nothing to do" "$(field .reason)" 'nothing to do'

write_policy crash.lua hello "sleep 2; $(build_hello 1000)"
COMMIT=$(commit_all "$TMP/repo" crash)
spawn_deploy crash crash.lua "${fleet[@]}"
check "a build runs" wait_for 30 in_state building
stop_postgres QUIT
start_postgres || not_ok "PostgreSQL starts again"
join crash
is "the database crashed meanwhile: exit 0" "$RC" 0
is "all machines are healthy" "$(field .machines.healthy)" 4
is "every machine has the commit" "$(machines_not_on "$COMMIT")" 0
check_no_leftovers_but_postgres() { stop_postgres; check_no_leftovers; }
check_no_leftovers_but_postgres
