# lib.sh - what the end-to-end tests share. A test is tests/e2e/test_<what>.sh, executable:
#
#     #!/usr/bin/env bash
#     # test_upgrade.sh - a second run on the same state upgrades the same machines.
#     . "$(dirname "$0")/lib.sh"
#     make_repo "$TMP/repo"
#     run first "$ENGINE" run "$TMP/repo/policies/quickstart.lua" --state "$TMP/state" -o json
#     is "the first run succeeds" "$RC" 0
#     is "all are healthy" "$(jq .machines.healthy "$OUT")" 12
#
# $TMP is the test's directory, gone at the end. Processes are started with `spawn`, each in a session
# of its own, and ended at the latest when the test ends, together with whatever they started and left
# behind: all of them carry SLIPWAY_TEST=$TMP in their environment or live in $TMP. Nothing else is
# ever killed. Output is TAP; the plan is printed at the end.

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
ROOT=$PWD
ENGINE=$ROOT/build/engine
AGENT=$ROOT/build/engine-agent
TMP=$(mktemp -d /tmp/slipway-e2e.XXXXXX) || exit 1
chmod 711 "$TMP" # a server that runs as another user finds its folder in it
export SLIPWAY_TEST=$TMP NO_COLOR=1
unset ENGINE_URL ENGINE_DB PGHOST PGPORT PGUSER PGDATABASE
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

tests_run=0
tests_failed=0
declare -A spawned=() # name -> pid, which is also its process group

# --- results -------------------------------------------------------------------------------------

ok() { # WHAT
    tests_run=$((tests_run + 1))
    echo "ok $tests_run - $1"
}

not_ok() { # WHAT [DETAIL…]
    tests_run=$((tests_run + 1))
    tests_failed=$((tests_failed + 1))
    echo "not ok $tests_run - $1"
    shift
    [ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/# /'
    [ -z "${ERR:-}" ] || [ ! -s "$ERR" ] || tail -n 20 "$ERR" | sed 's/^/# stderr: /'
}

skip() { # WHAT WHY
    tests_run=$((tests_run + 1))
    echo "ok $tests_run - $1 # SKIP $2"
}

skip_all() { # WHY: ends the test
    skip "$(basename "$0")" "$1"
    exit 0
}

is() { # WHAT GOT WANTED
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got:    $2" "wanted: $3"; fi
}

like() { # WHAT TEXT EXTENDED-REGEX
    if grep -qE -- "$3" <<<"$2"; then ok "$1"; else not_ok "$1" "text: $2" "wanted a match of: $3"; fi
}

check() { # WHAT COMMAND…
    local what=$1
    shift
    if "$@"; then ok "$what"; else not_ok "$what" "failed: $*"; fi
}

# --- waiting and processes -----------------------------------------------------------------------

now_ms() {
    local t=${EPOCHREALTIME/[.,]/}
    echo "${t%???}"
}

wait_for() { # SECONDS COMMAND…: until the command succeeds; 1 if it does not in time
    local end=$(($(now_ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$end" ] || return 1
        sleep 0.05
    done
}

alive() { # PID: runs, and is not a zombie
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" && [[ ${stat##*) } != Z* ]]
}

gone() { # PID
    ! alive "$1"
}

# Runs a command to its end within LIMIT_S (120) seconds. Sets RC, and OUT and ERR to the files with its output.
run() { # NAME COMMAND…
    OUT=$TMP/$1.out ERR=$TMP/$1.err
    shift
    RC=0
    timeout -k 5 "${LIMIT_S:-120}" "$@" >"$OUT" 2>"$ERR" </dev/null || RC=$?
}

# Starts a command in the background, in a session of its own. PID is its pid; output in $TMP/NAME.out, .err.
spawn() { # NAME COMMAND…
    local name=$1
    shift
    env --default-signal=INT,QUIT setsid "$@" >"$TMP/$name.out" 2>"$TMP/$name.err" </dev/null &
    PID=$!
    spawned[$name]=$PID
}

# Sends a signal to a spawned process (not to its children), waits for its end and sets RC.
stop() { # NAME [SIGNAL]
    local pid=${spawned[$1]:-}
    [ -n "$pid" ] || return 0
    kill -s "${2:-TERM}" "$pid" 2>/dev/null
    join "$1"
}

# Waits for the end of a spawned process within LIMIT_S (120) seconds. Sets RC.
join() { # NAME
    local pid=${spawned[$1]}
    OUT=$TMP/$1.out ERR=$TMP/$1.err
    if ! wait_for "${LIMIT_S:-120}" gone "$pid"; then
        kill -KILL -- "-$pid" 2>/dev/null
        echo "# $1 did not end; killed"
    fi
    RC=0
    wait "$pid" 2>/dev/null || RC=$?
    unset "spawned[$1]"
}

# The pids of this test's processes that live, by environment, command line or working directory;
# without the script itself and the commands of its own process group.
leftovers() {
    local pid stat own
    read -r stat <"/proc/$$/stat"
    own=$(cut -d ' ' -f 3 <<<"${stat##*) }")
    {
        grep -lsaF -e "$TMP" /proc/[0-9]*/cmdline /proc/[0-9]*/environ
        find /proc/[0-9]*/cwd -maxdepth 0 -lname "$TMP*" 2>/dev/null
    } | cut -d / -f 3 | sort -un | while read -r pid; do
        if alive "$pid" && read -r stat 2>/dev/null <"/proc/$pid/stat"; then
            [ "$(cut -d ' ' -f 3 <<<"${stat##*) }")" = "$own" ] || echo "$pid"
        fi
    done
}

no_leftovers() {
    [ -z "$(leftovers)" ]
}

# A test's last word about orphans: what still lives after SECONDS is named.
check_no_leftovers() { # [SECONDS]
    local pid
    if wait_for "${1:-5}" no_leftovers; then
        ok "no process is left behind"
    else
        not_ok "no process is left behind"
        for pid in $(leftovers); do
            echo "# $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
        done
    fi
}

# --- repositories --------------------------------------------------------------------------------

git_in() { # DIR ARGUMENT…
    git -C "$1" -c user.name=Tester -c user.email=tester@example.com -c commit.gpgsign=false "${@:2}"
}

# Commits all that is in DIR; prints the commit.
commit_all() { # DIR MESSAGE
    git_in "$1" add -A && git_in "$1" commit -q -m "$2" && git_in "$1" rev-parse HEAD
}

# A new repository with the quickstart: its policy, its sources and the Lua library. COMMIT is its HEAD.
make_repo() { # DIR
    mkdir -p "$1/policies"
    cp -r "$ROOT"/policies/quickstart* "$ROOT"/policies/slipway "$1/policies/"
    git_in "$1" init -q -b main
    COMMIT=$(commit_all "$1" "quickstart: first version")
}

# --- PostgreSQL ----------------------------------------------------------------------------------

# Starts a private server (again: on the same data and port). Sets PG_URL. Without "-c fsync=on" it
# is quick and not durable against a power loss. 1 if it does not start.
start_postgres() { # [OPTION…]
    local dir=$TMP/postgres
    spawn postgres "$ROOT/scripts/postgres-server" "$dir" "$@"
    wait_for 60 postgres_is_up_or_dead
    postgres_is_up || { cat "$TMP/postgres.err" | sed 's/^/# /'; return 1; }
    PG_URL=$(cat "$dir/url")
}

postgres_is_up() {
    local dir=$TMP/postgres
    [ -s "$dir/url" ] && pg_isready -q -t 1 -d "$(cat "$dir/url")" &&
        grep -qs ready "$dir/data/postmaster.pid"
}

postgres_is_up_or_dead() {
    postgres_is_up || gone "${spawned[postgres]}"
}

stop_postgres() { # [SIGNAL]: INT (fast), QUIT (as a crash)
    stop postgres "${1:-INT}"
}

has_postgres() {
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

# --- the end -------------------------------------------------------------------------------------

finish() {
    local status=$? name pid
    trap - EXIT INT TERM HUP
    for name in "${!spawned[@]}"; do
        kill -TERM -- "-${spawned[$name]}" 2>/dev/null
    done
    if ! wait_for 3 no_leftovers; then
        for pid in $(leftovers); do
            kill -KILL "$pid" 2>/dev/null
        done
        wait_for 2 no_leftovers
    fi
    if [ -n "${KEEP_TMP:-}" ]; then
        echo "# kept: $TMP"
    else
        rm -rf "$TMP"
    fi
    [ "$status" -ge 128 ] || echo "1..$tests_run"
    [ "$tests_failed" -eq 0 ] || exit 1
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
