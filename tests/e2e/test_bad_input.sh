#!/usr/bin/env bash
# test_bad_input.sh - each gets its own clear error, its exit code and a terminal state, and leaves nothing
# behind that breaks the next run.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
fleet=(--regions 1 --agents 2)

bad_policy() { # NAME EXIT REGEX LUA
    printf '%s\n' "$4" >"$TMP/repo/$1.lua"
    deploy "$1" "$1.lua" "${fleet[@]}"
    is "$1: exit $2" "$RC" "$2"
    like "$1: says why" "$(cat "$ERR")" "$3"
}

bad_policy syntax 3 'syntax\.lua:2: ' $'return {\n  service = = "x",\n}'
bad_policy endless 3 'endless\.lua.*(200 ms|ran out|too long)' 'while true do end'
bad_policy nonsense 3 'nonsense\.lua' 'return 42'
bad_policy unknown-field 3 "unknown-field\.lua.*servce" 'return { servce = "x" }'
bad_policy raises 3 'raises\.lua:1: oh no' 'error("oh no")'
bad_policy io 3 'io\.lua:1: ' 'local f = io.open("/etc/passwd") return {}'

deploy missing nothing.lua "${fleet[@]}"
is "a policy that is not there: exit 2" "$RC" 2
like "and it is named" "$(cat "$ERR")" 'nothing\.lua'
deploy commit policies/quickstart.lua --commit 0123456789012345678901234567890123456789 "${fleet[@]}"
is "an unknown commit: exit 2" "$RC" 2
like "and it is named" "$(cat "$ERR")" '0123456789012345678901234567890123456789'
deploy ref policies/quickstart.lua --ref no-such-branch "${fleet[@]}"
is "an unknown ref: exit 2" "$RC" 2
like "and it is named" "$(cat "$ERR")" 'no-such-branch'
sed 's|service = "hello",|service = "hello", repo = "/no/such/repository",|' policies/quickstart.lua >elsewhere.lua
deploy repository elsewhere.lua "${fleet[@]}"
is "a repository that does not exist: exit 2" "$RC" 2
like "and it is named" "$(cat "$ERR")" '/no/such/repository'
run options "$ENGINE" run --no-such-option policies/quickstart.lua
is "an unknown option: exit 2" "$RC" 2
run verb "$ENGINE" stauts
is "an unknown verb: exit 2" "$RC" 2
like "with a guess" "$(cat "$ERR")" "did you mean 'status'"

write_policy hang.lua hello "sleep 600" ''
sed -i 's/timeout = "60s"/timeout = "1s"/' hang.lua
deploy hang hang.lua "${fleet[@]}"
is "a build that hangs past its limit: exit 11" "$RC" 11
like "and the limit is named" "$(field .reason)" '1 s'
write_policy output.lua hello "true" ''
deploy output output.lua "${fleet[@]}"
is "an output that does not exist: exit 11" "$RC" 11
like "and it is named" "$(field .reason)" "output.*out"

write_policy wrong.lua hello "$(build_hello)" 'advance = function(w) return { action = "jump" } end,'
commit_all "$TMP/repo" "policies" >/dev/null
deploy wrong wrong.lua "${fleet[@]}" --no-input
is "an advance that returns nonsense never goes on: it holds, exit 7 without input" "$RC" 7
like "and the field is named" "$(field .reason)" 'action'

deploy after policies/quickstart.lua "${fleet[@]}"
is "after all that, a good run is good" "$RC $(field .machines.healthy)" "0 2"
check_no_leftovers
