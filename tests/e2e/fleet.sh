# fleet.sh - what the tests of the main job share, on top of lib.sh: a small local system in $STATE.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
STATE=$TMP/state

# deploy NAME POLICY [OPTION…]: to its end. Sets RC, OUT (the JSON), ERR (the progress).
deploy() {
    local name=$1
    shift
    run "$name" "$ENGINE" run -o json --progress plain --state "$STATE" "$@"
}

# The same in the background; join NAME waits for it.
spawn_deploy() {
    local name=$1
    shift
    spawn "$name" "$ENGINE" run -o json --progress plain --state "$STATE" "$@"
}

field() { # JQ-EXPRESSION: of the last deployment's JSON
    jq -r "$1" "$OUT" 2>/dev/null
}

has_line() { # FILE REGEX
    grep -qE -- "$2" "$1" 2>/dev/null
}

child_pid() { # NAME: of a process of the local system
    jq -r --arg name "$1" '.children[] | select(.name == $name) | .pid' "$STATE/fleet.json" 2>/dev/null
}

kill_child() { # NAME
    kill -KILL "$(child_pid "$1")"
}

api() { # PATH [CURL-OPTION…]
    local path=$1
    shift
    curl -s -m 10 -H "Authorization: Bearer $(jq -r .token "$STATE/engine.json")" "$@" \
        "$(jq -r .url "$STATE/engine.json")$path"
}

# The state of the newest deployment, by the API of the running system.
live_state() {
    api '/v1/deployments?limit=1' 2>/dev/null | jq -r '.deployments[0].state' 2>/dev/null
}

in_state() { # REGEX
    [[ $(live_state) =~ ^($1)$ ]]
}

# Where machine M of region R keeps its services.
machine_root() { # MACHINE
    echo "$STATE/machines/$1/root"
}

# Every machine's `current` names a release whose document and tree are there; prints how many differ.
machines_not_on() { # COMMIT
    local root wrong=0
    for root in "$STATE"/machines/*/root; do
        grep -qsaF "$1" "$root"/services/*/current/release.doc || wrong=$((wrong + 1))
    done
    echo "$wrong"
}

# A policy of our own in $TMP/repo: SERVICE, build script (sh), waves. The service is the quickstart's.
write_policy() { # FILE SERVICE BUILD-SH [MORE-LUA]
    cat >"$1" <<LUA
local s = require "slipway"
return {
    service = "$2",
    build = { steps = { s.sh { [==[$3]==], timeout = "60s" } }, outputs = "out" },
    activate = { start = { "bin/hello" }, env = { PORT = "\${PORT}", MACHINE = "\${MACHINE}" } },
    health = { http = "http://127.0.0.1:\${PORT}/health", interval = "100ms", timeout = "1s",
               passes = 1, within = "10s" },
    waves = { { name = "canary", count = 1 }, { name = "rest", percent = 100 } },
    ${4:-}
}
LUA
}

# The shell that builds the quickstart's service into out/, with BYTES of ballast that does not compress.
build_hello() { # [BYTES]
    cat <<SH
make -s -C policies/quickstart VERSION=\$SLIPWAY_COMMIT
rm -rf out; cp -r policies/quickstart/out out
head -c ${1:-0} /dev/urandom > out/ballast
SH
}
