#!/usr/bin/env bash
# test_resume.sh - kill -9 of `engine run` itself in every phase, then --resume: it ends right.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
fleet=(--regions 2 --agents 2)

resume() { # NAME
    run "$1-resumed" "$ENGINE" run --resume -o json --progress plain --state "$STATE" "${fleet[@]}"
    is "$1: --resume exits 0" "$RC" 0
    is "$1: succeeded" "$(field .state)" succeeded
    is "$1: all healthy" "$(field '"\(.machines.healthy) \(.machines.total)"')" "4 4"
    is "$1: every machine has the commit" "$(machines_not_on "$COMMIT")" 0
    is "$1: of that commit" "$(field .commit)" "$COMMIT"
    check_no_leftovers
}

killed_in() { # NAME CONDITION…
    local name=$1
    shift
    write_policy "$TMP/repo/$name.lua" hello "sleep 1; $(build_hello 60000000)" \
        'advance = function(w) if w.wave.healthy < w.wave.reachable or w.wave.reachable == 0 then
            return s.wait("not yet", "1s") end return s.go() end,'
    COMMIT=$(commit_all "$TMP/repo" "$name")
    spawn_deploy "$name" "$name.lua" "${fleet[@]}"
    check "$name: reached" wait_for 60 "$@"
    stop "$name" KILL
    if wait_for 20 no_leftovers; then ok "$name: nothing is left behind"; else not_ok "$name: nothing is left behind" "$(leftovers)"; fi
    resume "$name"
}

killed_in start test -e "$STATE/intent.json"
killed_in building in_state building
killed_in replicating in_state replicating
killed_in rolling in_state 'rolling'
killed_in late in_state 'rolling|succeeded'

run nothing "$ENGINE" run --resume -o json --state "$STATE" "${fleet[@]}"
is "after the end, --resume tells how it ended" "$RC $(field .state)" "0 succeeded"
check_no_leftovers
