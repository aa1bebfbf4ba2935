#!/usr/bin/env bash
# test_simulate_swarm.sh - a swarm in virtual time: figures, the same ones for the same seed, a picture.
. "$(dirname "$0")/lib.sh"

small=(--machines 60 --regions 2 --size 64MB --pieces 64 --rate-up 64Mbit --rate-down 64Mbit --rack 8)

run plain "$ENGINE" simulate-swarm "${small[@]}" --seed 3 -o json --svg "$TMP/curve.svg"
is "it succeeds" "$RC" 0
is "all machines are complete" "$(jq '[.healthy, .slow, .died, .stranded] == [60, 0, 0, 0]' "$OUT")" true
is "the bound is size/rate and a little" "$(jq '.bound_seconds > 8 and .bound_seconds < 9' "$OUT")" true
is "the quantiles rise" "$(jq '.ratio | .p50 <= .p99 and .p99 <= .p999 and .p999 <= .max' "$OUT")" true
is "every machine got every piece" "$(jq '.pieces_sent >= 60 * 64' "$OUT")" true
is "a seed sends each piece at least once" "$(jq '.seed_copies.mean >= 1' "$OUT")" true
is "a picture is drawn" "$(grep -c '<polyline' "$TMP/curve.svg")" 1
jq 'del(.cpu_seconds)' "$OUT" >"$TMP/first"

run again "$ENGINE" simulate-swarm "${small[@]}" --seed 3 -o json
is "the same seed gives the same result" "$(jq 'del(.cpu_seconds)' "$OUT" | diff - "$TMP/first")" ""

run faults "$ENGINE" simulate-swarm "${small[@]}" --slow 5%:4 --die 10% -o json
is "slow and dying ones leave the others complete" "$(jq '[.healthy, .slow, .stranded]' -c "$OUT")" "[50,4,0]"

run table "$ENGINE" simulate-swarm "${small[@]}"
is "a table for people" "$(grep -c '^time over the bound' "$OUT")" 1

for wrong in "--size 10Gx" "--rate-up 100" "--slow 1%" "--machines 0" "--machines 300000" "--die 200%" \
    "--latency 5" "--cut 1%:9s:3s" "--pieces 100000"; do
    # shellcheck disable=SC2086
    run wrong "$ENGINE" simulate-swarm $wrong
    is "refused: $wrong" "$RC" 2
    flag=${wrong%% *}
    is "the error names ${flag#--} or what to give" "$(grep -c -e "$flag" -e "give more" "$ERR")" 1
done
