#!/usr/bin/env bash
# test_trust.sh - strangers are refused, by name, and harm nobody.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
cd "$TMP/repo" || exit 1

spawn_deploy keep policies/quickstart.lua --regions 1 --agents 2 --keep
check "a local system runs" wait_for 90 in_state succeeded
region_port=$(jq -r .link "$STATE/run/r1.json")

run other "$ENGINE" keys init --keys "$TMP/other-keys" --cluster other
is "another cluster's keys are made" "$RC" 0
run issue "$ENGINE" keys issue --keys "$TMP/other-keys" --role agent --id r1-m9 --out "$TMP/stranger"
is "and an identity of it" "$RC" 0
spawn stranger "$AGENT" run --region "127.0.0.1:$region_port" --identity "$TMP/stranger" \
    --root "$TMP/stranger-root" --listen 127.0.0.1:0
check "an agent of another cluster is told why" wait_for 15 has_line "$TMP/stranger.err" 'certificate|unknown ca|verify'
check "and the region node logs the refusal" wait_for 15 has_line "$STATE/logs/r1.log" 'refused|handshake|certificate'
stop stranger
is "it received nothing" "$(ls "$TMP/stranger-root/services" 2>/dev/null | wc -l)" 0

# A certificate of the right cluster, but of another role.
run wrong-role "$ENGINE" keys issue --keys "$STATE/keys" --role region --id r1-m9 --out "$TMP/wrong-role"
spawn wrong-role "$AGENT" run --region "127.0.0.1:$region_port" --identity "$TMP/wrong-role" \
    --root "$TMP/wrong-role-root" --listen 127.0.0.1:0
check "a region node's certificate does not make an agent" wait_for 15 has_line "$TMP/wrong-role.err" 'role|agent'
stop wrong-role

is "no token, no API" "$(curl -s -o /dev/null -w '%{http_code}' -m 5 "$(jq -r .url "$STATE/engine.json")/v1/deployments")" 401
is "a wrong token neither" "$(curl -s -o /dev/null -w '%{http_code}' -m 5 -H 'Authorization: Bearer nonsense' "$(jq -r .url "$STATE/engine.json")/v1/deployments")" 401
is "an unknown route is not found" "$(api /v1/nothing -o /dev/null -w '%{http_code}')" 404
is "secrets are nobody else's" "$(find "$STATE/keys" -name '*.key' -perm /077 | wc -l)" 0
is "the token neither" "$(find "$STATE" -maxdepth 1 -name '*.token' -perm /077 | wc -l)" 0
is "the machines are still healthy" "$(api '/v1/deployments?limit=1' | jq '.deployments[0].machines.healthy')" 2
stop keep INT
check_no_leftovers
