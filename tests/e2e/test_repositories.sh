#!/usr/bin/env bash
# test_repositories.sh - what a repository may look like: a worktree, a shared or shallow clone, odd
# names, somebody else's; and what is said of one that has no commit or changes that are not committed.
. "$(dirname "$0")/lib.sh"

policy='local s = require "slipway"
return {
    service = "odd",
    build = { steps = { s.sh("mkdir out; cp file out/file") }, outputs = "out" },
    activate = { start = { "/bin/sleep", "1000" } },
    health = { exec = { "/bin/true" }, interval = "100ms", passes = 1, within = "20s" },
    waves = { { name = "all", percent = 100 } },
}'
git() {
    command git -c user.name=tester -c user.email=tester@localhost -c protocol.file.allow=always "$@"
}
deploy() { # NAME POLICY [OPTION…]
    local name=$1 policy=$2
    shift 2
    run "$name" "$ENGINE" run "$policy" --state "$TMP/state" --regions 1 --agents 1 -o json "$@"
}
deploys() { # NAME POLICY [OPTION…]
    deploy "$@"
    is "$1: deployed" "$RC $(jq -r .state "$OUT") $(jq -r .commit "$OUT")" \
        "0 succeeded $(git -C "$(dirname "$2")" rev-parse HEAD)"
}

main=$TMP/main
mkdir "$main"
git init -q -b main "$main"
echo "$policy" >"$main/odd.lua"
deploy empty "$main/odd.lua"
is "no commit: exit code" "$RC" 2
like "no commit: says so" "$(cat "$ERR")" "nothing is committed in $main: git commit first"
deploy outside /dev/null
is "no Lua file: exit code" "$RC" 3

echo 1 >"$main/file"
git -C "$main" add .
git -C "$main" commit -q -m one
deploys clean "$main/odd.lua"
check "the state is nothing to commit" test "$(cat "$TMP/state/.gitignore")" = "*"
is "clean: nothing is said of changes" "$(grep -c 'not committed' "$ERR")" 0
echo 2 >"$main/file"
deploys dirty "$main/odd.lua"
like "changes: says that they are not deployed" "$(cat "$ERR")" \
    "note: $main has changes that are not committed: they are not deployed"
deploy both "$main/odd.lua" --ref main --commit HEAD
is "a ref and a commit: exit code" "$RC" 2

another() { # DIR: a commit of its own
    echo "$1" >"$1/file"
    git -C "$1" commit -q -a -m "$1"
}
git -C "$main" worktree add -q "$TMP/worktree"
git clone -q --shared "$main" "$TMP/shared"
git clone -q --depth 1 "file://$main" "$TMP/shallow"
odd="$TMP/o d\"d'ü\\ \$x#/r:[po]"
mkdir -p "$(dirname "$odd")"
git clone -q "$main" "$odd"
for dir in "$TMP/worktree" "$TMP/shared" "$odd"; do
    another "$dir"
    deploys "$(basename "$dir")" "$dir/odd.lua"
done
deploys shallow "$TMP/shallow/odd.lua"
if [ "$(id -u)" -eq 0 ]; then
    another "$TMP/shallow"
    chown -R 12345 "$TMP/shallow"
    deploy foreign "$TMP/shallow/odd.lua"
    is "somebody else's: deployed" "$RC" 0
fi

touch "$TMP/a-file"
run file "$ENGINE" run "$main/odd.lua" --state "$TMP/a-file"
is "state that is a file: exit code" "$RC" 2
like "state that is a file: says so" "$(cat "$ERR")" "a-file is there and no directory"

if command -v luarocks >/dev/null; then
    run rock luarocks --lua-version 5.4 --tree "$TMP/rocks" make rockspec/slipway-0.1-1.rockspec
    is "the rock is made" "$RC" 0
    check "the rock holds the library" test -s "$TMP/rocks/share/lua/5.4/slipway.lua" -o \
        -s "$TMP/rocks/share/lua/5.4/slipway/init.lua"
fi
