#!/usr/bin/env bash
# test_disk.sh - a machine whose disk is full: a clear error, the right end, and it recovers.
. "$(dirname "$0")/fleet.sh"
[ "$(id -u)" = 0 ] || skip_all "a small disk needs root to mount it"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
fleet=(--regions 1 --agents 2)

small=$(machine_root r1-m1)
mkdir -p "$small"
mount -t tmpfs -o size=16m tmpfs "$small" 2>/dev/null || skip_all "tmpfs cannot be mounted here"
unmount() { umount -l "$small" 2>/dev/null; finish; }
trap unmount EXIT

write_policy fits.lua hello "$(build_hello 1000)"
first=$(commit_all "$TMP/repo" fits)
deploy fits fits.lua "${fleet[@]}"
is "an artifact that fits is deployed" "$RC $(field .machines.healthy)" "0 2"

write_policy large.lua hello "$(build_hello 40000000)"
commit_all "$TMP/repo" large >/dev/null
deploy large large.lua "${fleet[@]}"
is "one that does not fit is rolled back: exit 4" "$RC" 4
is "in its terminal state" "$(field .state)" rolled_back
like "the machine and the full disk are named" "$(field '.failures[] | "\(.machine) \(.reason)"')" 'r1-m1 .*(no space|No space)'
is "every machine is on the commit before" "$(machines_not_on "$first")" 0

write_policy again.lua hello "$(build_hello 2000)"
commit_all "$TMP/repo" again >/dev/null
deploy again again.lua "${fleet[@]}"
is "the next that fits is deployed" "$RC $(field .machines.healthy)" "0 2"
check_no_leftovers
