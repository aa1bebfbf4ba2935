#!/usr/bin/env bash
# test_acts.sh - what a person does from the command line to a deployment that is under way, and what its
# exit code is then; also where nothing runs.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
fleet=(--regions 2 --agents 2)
texts=0

# Waves that go on only if somebody says so.
slow='waves = { { name = "canary", count = 1, bake = "10m" }, { name = "rest", percent = 100, bake = "2s" } },'
policy() { # BUILD-SH WAVES-LUA [MORE-LUA]
    write_policy acts.lua hello "$1" "$2 ${3:-}"
    sed -i 's/^    waves = { { name = "canary", count = 1 }, .*//' acts.lua
    echo "text $((++texts))" >policies/quickstart/index.txt
    COMMIT=$(commit_all "$TMP/repo" "text $texts")
}
act() { # VERB [OPTION…]
    local verb=$1
    shift
    run "act-$verb" "$ENGINE" "$verb" --state "$STATE" -o json "$@"
}
wave_is() { # NUMBER STATE
    [ "$(api '/v1/deployments?limit=1' 2>/dev/null | jq -r ".deployments[0].waves[$1 - 1].state")" = "$2" ]
}
follow_to() { # NAME EXIT STATE
    join "$1"
    is "$1: exit $2" "$RC" "$2"
    is "$1: $3" "$(field .state)" "$3"
    is "$1: the object says the same" "$(field .exit)" "$2"
}

policy "$(build_hello)" "$slow"
spawn_deploy first acts.lua "${fleet[@]}"
check "first: the canary bakes" wait_for 60 wave_is 1 baking
act pause --reason lunch
is "pause exits 0" "$RC $(field .state)" "0 held"
act pause
is "pause again is refused" "$RC $(field .error.code)" "2 conflict"
act skip-bake --reason "seen enough"
is "skip-bake goes on" "$RC $(field .state)" "0 rolling"
follow_to first 0 succeeded
like "first: events name who and why" "$(cat "$TMP/first.err")" 'pause by .*: lunch'

policy "$(build_hello)" "$slow"
spawn_deploy second acts.lua
check "second: the canary bakes" wait_for 60 wave_is 1 baking
act pause
act resume
is "resume goes on" "$RC $(field .state)" "0 rolling"
act promote
is "promote exits 0" "$RC" 0
follow_to second 0 succeeded
is "second: as many machines as before" "$(field .machines.total)" 4
second=$COMMIT

policy "$(build_hello)" "$slow"
spawn_deploy third acts.lua
check "third: the canary bakes" wait_for 60 wave_is 1 baking
act rollback hello --reason "smells"
is "rollback exits 0" "$RC" 0
follow_to third 4 rolled_back
is "third: all are on the second" "$(machines_not_on "$second")" 0
is "third: and healthy" "$(field .machines.healthy)" 4

policy "$(build_hello)" "$slow"
spawn_deploy fourth acts.lua --timeout 4s
follow_to fourth 8 rolling
run status "$ENGINE" status --state "$STATE"
like "status where nothing runs" "$(cat "$OUT")" "${COMMIT:0:7} +rolling"
act promote nosuch
is "an act on nothing" "$RC $(field .error.code)" "2 not_found"
act abort
is "abort where nothing runs" "$RC $(field .state)" "0 aborted"
act abort
is "there is nothing more to abort" "$RC $(field .v)" "2 1"
deploy resumed --resume
is "what was aborted stays aborted" "$RC $(field .state)" "6 aborted"

policy "$(build_hello)" "$slow" 'replicate = function(r) return s.hold("not today") end,'
deploy held acts.lua --no-input
is "held with --no-input: exit 7" "$RC $(field .state)" "7 failed"
like "held: why" "$(field .reason)" 'not today'

policy "$(build_hello)" "$slow" 'replicate = function(r) return s.wait("not yet") end,'
spawn_deploy gate acts.lua
check "gate: waits" wait_for 60 in_state replicating
act rollback
is "gate: nothing to roll back yet" "$RC $(field .error.code)" "2 conflict"
act promote
act skip-bake
wait_for 60 wave_is 1 baking
act skip-bake
follow_to gate 0 succeeded

policy "$(build_hello)" 'waves = { { name = "all", percent = 100 } },' \
    'deadline = "6s", advance = function(a) return s.wait("for ever") end,'
deploy deadline acts.lua
is "the deadline passes: rolled back" "$RC $(field .state)" "4 rolled_back"
like "deadline: what it waited for" "$(field .reason)" 'deadline.*for ever'

policy "sleep 5; $(build_hello)" 'waves = { { name = "all", percent = 100 } },'
spawn_deploy ahead acts.lua
check "ahead: builds" wait_for 60 in_state building
export ENGINE_TOKEN ENGINE_URL
ENGINE_TOKEN=$(jq -r .token "$STATE/engine.json") ENGINE_URL=$(jq -r .url "$STATE/engine.json")
spawn older "$ENGINE" run -o json --progress plain acts.lua --set n=1
check "older: waits behind it" wait_for 30 in_state queued
older=$(api '/v1/deployments?limit=1' | jq -r '.deployments[0].id')
spawn newer "$ENGINE" run -o json --progress plain acts.lua --set n=2
follow_to older 6 superseded
is "older: it was that one" "$(field .deployment)" "$older"
join newer
is "newer: nothing to do after the same commit" "$RC $(field .state)" "0 succeeded"
unset ENGINE_TOKEN ENGINE_URL
follow_to ahead 0 succeeded

# The first deployment of a service has nothing to go back to.
STATE=$TMP/fresh
policy "$(build_hello)" "$slow"
spawn_deploy alone acts.lua "${fleet[@]}"
check "alone: the canary bakes" wait_for 60 wave_is 1 baking
act rollback
follow_to alone 5 failed
like "alone: its machines stopped it" "$(field .reason)" 'first deployment'
check_no_leftovers
