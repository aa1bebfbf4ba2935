#!/usr/bin/env bash
# test_lib.sh - the helpers of the end-to-end tests keep their promises.
. "$(dirname "$0")/lib.sh"

# A test in a process of its own; its TAP in $OUT.
inner() { # NAME SCRIPT
    printf '%s\n' ". '$ROOT/tests/e2e/lib.sh'" "$2" >"$TMP/$1.sh"
    run "$1" bash "$TMP/$1.sh"
}

inner good 'ok one; is two 2 2; like three abc "b"; check four true; skip five "no reason"'
is "a good test exits 0" "$RC" 0
is "it prints its plan" "$(tail -n 1 "$OUT")" "1..5"
is "a skipped test says why" "$(sed -n 5p "$OUT")" "ok 5 - five # SKIP no reason"

inner bad 'is two 1 2; check four false; like five abc x; not_ok six detail'
is "a failing test exits 1" "$RC" 1
is "each failure is told" "$(grep -c '^not ok' "$OUT")" 4
like "with its detail" "$(cat "$OUT")" '^# wanted: 2$'

inner early 'ok one; exit 7; ok two'
is "the exit code of a test that ends early stays" "$RC" 7

inner waits 'wait_for 1 false; echo "rc $?"; touch "$TMP/x"; wait_for 1 test -e "$TMP/x"; echo "rc $?"'
is "wait_for tells success from failure" "$(grep '^rc' "$OUT" | tr '\n' ' ')" "rc 1 rc 0 "

inner orphan 'spawn a sh -c "setsid sleep 100 & exec sleep 100"
    echo "dir $TMP"
    children() { [ "$(leftovers | wc -l)" = 2 ]; }
    check "both are seen" wait_for 5 children
    leftovers | sed "s/^/pid /"'
is "orphans are seen" "$RC" 0
is "their pids are known" "$(grep -c '^pid ' "$OUT")" 2
for pid in $(sed -n 's/^pid //p' "$OUT"); do
    check "process $pid was ended" gone "$pid"
done
check "the directory is gone" test ! -e "$(sed -n 's/^dir //p' "$OUT")"

inner stopped 'spawn a sh -c "trap \"exit 5\" INT; while :; do sleep 0.05; done"
    wait_for 2 alive "$PID"; sleep 0.2; stop a INT; is "its exit code" "$RC" 5; check_no_leftovers'
is "a spawned process sees SIGINT" "$RC" 0

if has_postgres; then
    check "PostgreSQL starts" start_postgres
    psql -q "$PG_URL" -c "CREATE TABLE kept (n int)"
    stop_postgres QUIT
    check "and starts again after a crash" start_postgres
    is "with its data" "$(psql -At "$PG_URL" -c 'SELECT count(*) FROM kept')" 0
    stop_postgres
    is "and stops" "$RC" 0
else
    skip "PostgreSQL" "not installed"
fi
check_no_leftovers
