#!/usr/bin/env bash
# test_kill.sh - kill -9 of every kind of process at a bad moment: the deployment still ends right.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
fleet=(--regions 2 --agents 2)

# Each case is a new commit with a build that lasts a little and ballast that takes time to travel.
new_commit() { # NAME BYTES BUILD-SECONDS
    write_policy "$TMP/repo/$1.lua" hello "sleep $3; $(build_hello "$2")" "${4:-}"
    COMMIT=$(commit_all "$TMP/repo" "$1")
}

expect_success() { # WHAT
    join "$1"
    is "$1: exit 0" "$RC" 0
    is "$1: all healthy" "$(field '"\(.machines.healthy) \(.machines.total)"')" "4 4"
    is "$1: every machine has the commit" "$(machines_not_on "$COMMIT")" 0
}

new_commit worker 0 2
spawn_deploy worker worker.lua "${fleet[@]}"
check "worker: the build runs" wait_for 30 in_state building
check "worker: its log has begun" wait_for 30 test -n "$(child_pid worker)"
kill_child worker
expect_success worker

new_commit region 100000000 0
spawn_deploy region region.lua "${fleet[@]}"
check "region: it replicates" wait_for 60 in_state 'replicating|rolling'
kill_child r1
expect_success region

new_commit agent 100000000 0
touch "$TMP/before"
spawn_deploy agent agent.lua "${fleet[@]}"
fetching() { [ -n "$(find "$(machine_root r1-m1)/packs" -name '*.bitmap' -newer "$TMP/before" 2>/dev/null)" ]; }
check "agent: packs are being fetched" wait_for 60 fetching
kill_child r1-m1
expect_success agent

new_commit serve 20000000 1
spawn_deploy serve serve.lua "${fleet[@]}"
check "serve: it builds" wait_for 30 in_state 'building'
kill_child serve
check "serve: it answers again" wait_for 30 in_state '.*ing|succeeded'
kill_child serve
expect_success serve
check_no_leftovers

# An agent that is killed leaves its service running, and adopts it.
new_commit adopt 0 0
spawn_deploy adopt adopt.lua "${fleet[@]}" --keep
check "adopt: deployed" wait_for 60 in_state succeeded
service_pid() { jq -r .pid "$(machine_root r1-m1)"/services/hello/run 2>/dev/null; }
before=$(service_pid)
agent_before=$(child_pid r1-m1)
kill_child r1-m1
agent_is_back() { local pid; pid=$(child_pid r1-m1); [ -n "$pid" ] && [ "$pid" != "$agent_before" ]; }
check "adopt: the agent is started again" wait_for 20 agent_is_back
check "adopt: its service never stopped" alive "$before"
adopted() { [ "$(api /v1/deployments?limit=1 | jq .deployments[0].machines.healthy)" = 4 ]; }
check "adopt: and is reported healthy" wait_for 30 adopted
is "adopt: it is the same process" "$(service_pid)" "$before"

# Agent and system are killed in one moment: nobody is left to stop the service, but the agent's guard.
kill_child r1-m1
stop adopt KILL
check "adopt: its service ends with agent and system" wait_for 30 gone "$before"
check_no_leftovers
