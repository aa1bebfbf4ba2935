#!/usr/bin/env bash
# test_swarm.sh - one region of six agents and 100 MB: the origin is read once, most bytes come from
# peers, a killed agent asks for nothing twice, and strangers at the ports harm nobody.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1
BALLAST=100000000
write_policy "$TMP/repo/swarm.lua" hello "$(build_hello $BALLAST)"
COMMIT=$(commit_all "$TMP/repo" swarm)
touch "$TMP/before"

link_ports() { # of the region node and the agents that are ready
    jq -r .link "$STATE"/run/r1.json "$STATE"/run/r1-m*.json 2>/dev/null
}

# Garbage, a frame that promises too much, silence, and a connection that is dropped in the middle of a handshake.
bother() { # PORT
    local fd
    (head -c 100000 /dev/urandom >"/dev/tcp/127.0.0.1/$1") 2>/dev/null
    (printf '\xff\xff\xff\xff\x60\x00garbage' >"/dev/tcp/127.0.0.1/$1") 2>/dev/null
    (printf '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' >"/dev/tcp/127.0.0.1/$1") 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8; do
        { exec {fd}<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null # stays open and says nothing
    done
}

bother_all() {
    local port
    for port in $(link_ports); do bother "$port"; done
}

all_ready() { [ "$(link_ports | wc -l)" = 7 ]; }

# Leaves of the pack that are verified on the disk of a machine: bits in the first half of its bitmap.
verified_leaves() { # MACHINE
    local file
    file=$(find "$(machine_root "$1")/packs" -name '*.bitmap' -newer "$TMP/before" 2>/dev/null | head -n 1)
    [ -n "$file" ] || { echo 0; return; }
    head -c $(($(stat -c %s "$file") / 2)) "$file" | od -An -v -tu1 |
        awk '{ for (i = 1; i <= NF; i++) for (b = $i; b > 0; b = int(b / 2)) n += b % 2 } END { print n + 0 }'
}

some_leaves() { [ "$(verified_leaves r1-m3)" -ge 20 ]; }

spawn_deploy swarm swarm.lua --regions 1 --agents 6 --keep
check "region node and agents are ready" wait_for 60 all_ready
bother_all
check "an agent fetches" wait_for 60 some_leaves
before=$(verified_leaves r1-m3)
kill_child r1-m3
bother_all
check "the deployment succeeds" wait_for 120 in_state 'succeeded|failed|rolled_back'
is "it succeeded" "$(live_state)" succeeded
view=$(api '/v1/deployments?limit=1' | jq .deployments[0])
is "all are healthy" "$(jq -c '[.machines.healthy, .machines.total]' <<<"$view")" "[6,6]"
is "every machine has the commit" "$(machines_not_on "$COMMIT")" 0

pack=$(jq .artifacts[0].pack_bytes <<<"$view")
origin=$(jq .bytes.origin <<<"$view")
seed=$(jq .bytes.seed <<<"$view")
peer=$(jq .bytes.peer <<<"$view")
echo "# pack $pack, origin $origin, seed $seed, peer $peer"
check "the pack has its ballast" [ "$pack" -ge $BALLAST ]
is "the origin is read once" $((origin / pack)) 1
check "and little more than that" [ "$origin" -lt $((pack + pack / 100)) ]
is "each machine counts each byte once, also the killed one" $((seed + peer)) $((6 * pack))
kept=$(sed -nE 's/.*pack [0-9a-f]+: ([0-9]+) of [0-9]+ bytes are here already.*/\1/p' "$STATE/logs/r1-m3.log" | tail -n 1)
echo "# r1-m3 had $before leaves when it was killed, and went on from ${kept:-0} bytes"
check "the killed one goes on from all that it had verified" [ "${kept:-0}" -ge $(((before - 1) * 262144)) ]
check "most came from peers" [ "$peer" -gt "$seed" ]
bother_all
check "the system answers" in_state succeeded
stop swarm INT
check_no_leftovers
