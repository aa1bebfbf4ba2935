#!/usr/bin/env bash
# test_figures.sh - what is told of a deployment's swarm is what the machines themselves have counted, also after a
# region node and the control plane were killed.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
BALLAST=24000000
write_policy "$TMP/repo/figures.lua" hello "$(build_hello $BALLAST)"
COMMIT=$(commit_all "$TMP/repo" figures)
LEAF=262144

# What the machines of a region have written down, added up; R is "" for all.
receipts() { # R JQ-EXPRESSION: of each receipt
    cat "$STATE"/machines/"$1"*/root/services/hello/releases/*/receipt.json | jq -n "[inputs | $2]"
}

sum_of() { # R JQ-EXPRESSION
    receipts "$1" "$2" | jq add
}

swarm() { # JQ-EXPRESSION: of the latest deployment's figures, by the API
    api '/v1/deployments?limit=1' | jq -r ".deployments[0].swarm | $1"
}

metric() { # SAMPLE
    api /metrics | sed -n "s/^$1 //p"
}

spawn_deploy deploy figures.lua --regions 3 --agents 3 --keep
check "the deployment succeeds" wait_for 180 in_state 'succeeded|failed|rolled_back'
is "it succeeded" "$(live_state)" succeeded

is "each machine told of its fetch" "$(swarm '[.machines, .fetched, .late, .refused]' | jq -c .)" "[9,9,0,0]"
is "each machine wrote it down" "$(receipts '' .fetched.done | jq -c .)" "[1,1,1,1,1,1,1,1,1]"
for pair in same_rack_bytes:same_rack other_rack_bytes:other_rack stolen:stolen doubled:doubled \
    useless:useless bad_leaves:bad edges:edges stale_edges:stale; do
    is "${pair%:*} is their sum" "$(swarm ".${pair%:*}")" "$(sum_of '' ".fetched.${pair#*:}")"
done
is "the longest time is the longest of theirs" "$(swarm '.seconds.max * 1000 | round')" \
    "$(receipts '' .fetched.ms | jq max)"
is "nobody is measured twice" "$(swarm '.rate_from.limit + .rate_from.link + .rate_from.observed')" \
    "$(swarm .rated)"

seed=$(sum_of '' .seed) peer=$(sum_of '' .peer)
near=$(sum_of '' .fetched.same_rack) far=$(sum_of '' .fetched.other_rack)
echo "# from region nodes $seed, from machines $peer: same rack $near, other rack $far"
check "most bytes between machines have known racks" \
    [ $((2 * (near + far))) -ge "$peer" -a $((near + far)) -le "$peer" ]
is "the share between racks is theirs" "$(swarm '.cross_rack * 1000 | round')" \
    $(((2000 * far + near + far) / (2 * (near + far))))

# What a region node has sent its machines have got, but for what came twice.
for r in r1 r2 r3; do
    got=$(sum_of $r .seed)
    more=$(($(sum_of $r '.fetched | .stolen + .doubled + .useless + .bad') * LEAF))
    read -r sent bytes copies <<<"$(swarm ".packs[] | select(.region == \"$r\") | \"\(.sent_bytes) \(.bytes) \(.copies)\"")"
    echo "# $r: sent $sent, got $got, pack $bytes, $copies copies"
    check "the region node of $r counts what its machines got" [ "$sent" -ge "$got" -a "$sent" -le $((got + more)) ]
    is "its copies are these bytes over the pack's" "$(jq -n "$copies * 1000 | round")" $(((2000 * sent + bytes) / (2 * bytes)))
done
is "the copies of all are the most of any" "$(swarm .seed_copies)" "$(swarm '[.packs[].copies] | max')"

is "metrics count each machine" "$(metric slipway_swarm_fetch_seconds_count)" 9
is "and each byte" "$(metric 'slipway_swarm_rack_bytes_total{rack="other"}')" "$far"
run status "$ENGINE" status hello --state "$STATE"
like "status has a line of it" "$(cat "$OUT")" "swarm .*copies from seeds; [0-9]+ % between racks"

# Killed: what was told is told again, and counts once.
before=$(swarm . | jq -S .)
old=$(child_pid r1)$(child_pid serve)
kill_child r1
kill_child serve
is_back() {
    [ "$(child_pid r1)$(child_pid serve)" != "$old" ] &&
        [ "$(api /v1/regions 2>/dev/null | jq '[.regions[].connected] | all' 2>/dev/null)" = true ] &&
        [ "$(api '/v1/deployments?limit=1' 2>/dev/null | jq '.deployments[0].machines.healthy' 2>/dev/null)" = 9 ]
}
check "region node and control plane are back" wait_for 60 is_back
is "the figures are what they were" "$(swarm . | jq -S .)" "$before"
is "and so are the metrics" "$(metric slipway_swarm_fetch_seconds_count)" 9
stop deploy INT

# By themselves: a machine of a known rate, and its seed.
head -c 6000000 /dev/urandom >"$TMP/file"
spawn seed "$ENGINE" seed "$TMP/file" --listen 127.0.0.1:0 --ref-file "$TMP/ref" -o json
check "the seed is ready" wait_for 30 test -s "$TMP/ref"
run fetch "$AGENT" fetch "$(cat "$TMP/ref")" --to "$TMP/out" --listen 127.0.0.1:0 --limit-down 2M -o json
is "a fetch says what it was measured by" "$(jq -cs '.[0] | [.rate, .rate_from]' "$OUT")" '[2097152,"limit"]'
is "all of its bytes" "$(jq -s '.[0] | .fetched_bytes == .bytes' "$OUT")" true
is "and that the limit was kept, more or less" "$(jq -s '.[0].ratio | . > 0.8 and . < 20' "$OUT")" true
ratio=$(jq -s '.[0].ratio' "$OUT") sent=$(jq -s '.[0].bytes' "$OUT")
stop seed
last=$(tail -n 1 "$TMP/seed.out")
is "the seed was told the same" "$(jq -c '.swarm | [.fetched, .ratio.max]' <<<"$last")" "[1,$ratio]"
is "and has sent one copy" "$(jq -c '[.swarm.packs[0].sent_bytes, .swarm.seed_copies == 1]' <<<"$last")" "[$sent,true]"
check_no_leftovers
