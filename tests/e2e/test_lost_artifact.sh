#!/usr/bin/env bash
# test_lost_artifact.sh - the origin store has lost what a succeeded build made: said once, then built anew.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
fleet=(--regions 1 --agents 1)

deploy first policies/quickstart.lua "${fleet[@]}"
is "the first deployment exits 0" "$RC" 0
first=$COMMIT
echo more >>policies/quickstart/index.txt
commit_all "$TMP/repo" more >/dev/null
deploy second policies/quickstart.lua "${fleet[@]}"
is "the second too" "$RC" 0
rm -rf "$STATE"/store/pack "$STATE"/store/index "$STATE"/store/manifest

deploy lost policies/quickstart.lua --commit "$first" "${fleet[@]}"
is "the first again, whose artifact is lost: exit 5, no machine touched" "$RC" 5
like "says so, and what to do" "$(field .reason)" 'trigger it again'
deploy anew policies/quickstart.lua --commit "$first" "${fleet[@]}"
is "triggered again, it is built anew" "$RC $(field .machines.healthy)" "0 1"
check_no_leftovers
