#!/usr/bin/env bash
# test_run.sh - the main job: deploy, nothing to do, upgrade, roll back, a build that fails.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
POLICY=$TMP/repo/policies/quickstart.lua
first=$COMMIT

deploy first "$POLICY"
is "the first deployment exits 0" "$RC" 0
is "it succeeded" "$(field .state)" succeeded
is "of this commit" "$(field .commit)" "$first"
is "12 of 12 machines are healthy" "$(field '.machines | "\(.healthy) \(.total) \(.failed) \(.drift)"')" "12 12 0 0"
is "3 regions hold it" "$(field '[.regions[] | select(.replicated) | .machines] | join(" ")')" "4 4 4"
is "one artifact" "$(field '.artifacts | length')" 1
like "named by its digest" "$(field '.artifacts[0].digest')" '^[0-9a-f]{64}$'
is "bytes were counted" "$(field '.bytes | (.origin > 0 and .seed > 0 and (.seed + .peer) > 0)')" true
is "seconds were counted" "$(field '.seconds | (.build > 0 and .total >= .build)')" true
is "stdout is one object" "$(wc -l <"$OUT")" 1
is "every machine has the commit" "$(machines_not_on "$first")" 0
like "progress names the waves" "$(cat "$ERR")" 'canary'
check_no_leftovers

deploy again "$POLICY"
is "the same again exits 0" "$RC" 0
like "and says that there is nothing to do" "$(field .reason)" 'nothing to do'
is "with all machines healthy" "$(field .machines.healthy)" 12

echo "changed" >>"$TMP/repo/policies/quickstart/index.txt"
second=$(commit_all "$TMP/repo" "another text")
deploy upgrade "$POLICY"
is "a new commit exits 0" "$RC" 0
is "it is the new one" "$(field .commit)" "$second"
is "all machines moved" "$(field .machines.healthy)" 12
is "every machine has the new commit" "$(machines_not_on "$second")" 0

# A version that answers 500 on /health: whatever the sources, its health check fails.
sed -i 's/200/500/g' "$TMP/repo/policies/quickstart/"*.c
sick=$(commit_all "$TMP/repo" "sick")
deploy sick "$POLICY"
is "a sick commit exits 4" "$RC" 4
is "it was rolled back" "$(field .state)" rolled_back
is "the sick commit is named" "$(field .commit)" "$sick"
is "all machines are healthy again" "$(field .machines.healthy)" 12
is "every machine is on the commit before" "$(machines_not_on "$second")" 0
like "the failed machine is named" "$(field '.failures[0].machine')" '^r[0-9]+-m[0-9]+$'
like "progress tells of the rollback" "$(cat "$ERR")" '[Rr]oll'
git_in "$TMP/repo" revert --no-edit HEAD >/dev/null

echo 'int main(void) { return' >"$TMP/repo/policies/quickstart/hello.c"
broken=$(commit_all "$TMP/repo" "does not compile")
deploy broken "$POLICY"
is "a build that fails exits 11" "$RC" 11
is "it failed" "$(field .state)" failed
like "the reason names the step" "$(field .reason)" 'make'
is "no machine was touched" "$(machines_not_on "$second")" 0

deploy older "$POLICY" --commit "$first"
is "an older commit can be deployed" "$RC" 0
is "and is what runs" "$(machines_not_on "$first")" 0

run status "$ENGINE" status --state "$STATE"
is "status works on the state that the run left" "$RC" 0
like "and lists the deployments" "$(cat "$OUT")" "hello.*${first:0:7}.*succeeded"
run queue "$ENGINE" queue --state "$STATE"
like "queue lists the jobs" "$(cat "$OUT")" "${broken:0:7}.*failed"
run logs "$ENGINE" logs "hello@$broken" --state "$STATE"
like "logs shows the compiler's words" "$(cat "$OUT")" 'error'
run events "$ENGINE" events "hello@$sick" --state "$STATE"
like "events tells what happened" "$(cat "$OUT")" 'roll'
check_no_leftovers
