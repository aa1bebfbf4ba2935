#!/usr/bin/env bash
# test_check.sh - scripts/check counts right, whatever a test program does.
. "$(dirname "$0")/lib.sh"

tree=$TMP/tree
mkdir -p "$tree/tests/e2e"
cp -r scripts "$tree/"
printf 'all tools:\n\t@true\n' >"$tree/Makefile"

program() { # NAME: script on stdin
    { echo '#!/bin/sh'; cat; } >"$tree/tests/e2e/test_$1.sh"
    chmod +x "$tree/tests/e2e/test_$1.sh"
}

check_only() { # NAME
    run "check-$1" env -C "$tree" scripts/check "tests/e2e/test_$1.sh"
}

expect() { # NAME RC LAST-LINE PATTERN
    check_only "$1"
    is "$1: exit code" "$RC" "$2"
    is "$1: last line" "$(tail -n 1 "$OUT")" "$3"
    like "$1: is told" "$(cat "$OUT")" "$4"
}

program passes <<<'echo "ok 1 - a"; echo "ok 2 - b"; echo "1..2"'
program fails <<<'echo "1..2"; echo "ok 1 - a"; echo "not ok 2 - b"; echo "# because"; exit 1'
program skips <<<'echo "ok 1 - a"; echo "ok 2 - b # SKIP no server here"; echo "1..2"'
program is_empty <<<'echo hello'
program ends_early <<<'echo "1..3"; echo "ok 1 - a"'
program crashes <<<'echo "ok 1 - a"; kill -SEGV $$'
program exits_7 <<<'echo "ok 1 - a"; exit 7'

expect passes 0 "2 passed, 0 failed" "2 passed"
expect fails 1 "1 passed, 1 failed" "# because"
expect skips 0 "1 passed, 0 failed, 1 skipped" "skipped: b # SKIP no server here"
expect is_empty 1 "0 passed, 1 failed" "printed no test"
expect ends_early 1 "1 passed, 1 failed" "ended after 1 of 3 tests"
expect crashes 1 "1 passed, 1 failed" "died of signal 11"
expect exits_7 1 "1 passed, 1 failed" "exit code 7"

run all env -C "$tree" scripts/check e2e
is "all: the counts are added up" "$(tail -n 1 "$OUT")" "7 passed, 5 failed, 1 skipped"
run unknown env -C "$tree" scripts/check nosuch
is "an unknown suite is a usage error" "$RC" 2

printf 'all tools:\n\t@echo broken; false\n' >"$tree/Makefile"
expect passes 1 "0 passed, 1 failed" broken

# The time limit ends the program with all that it started in its process group.
run limit scripts/run-limited 1 "$TMP/limit.log" sh -c 'sleep 100 & echo started; wait'
like "a program that hangs is ended" "$(cat "$OUT")" '^124 [0-9]+$'
is "its output is kept" "$(cat "$TMP/limit.log")" started
check_no_leftovers
