#!/usr/bin/env bash
# test_artifact.sh - the blob store's care: list, show, export, verify and heal, collect what nobody needs.
. "$(dirname "$0")/fleet.sh"
make_repo "$TMP/repo"
POLICY=$TMP/repo/policies/quickstart.lua

artifact() { # NAME VERB [OPTION…]: on the state, as JSON
    local name=$1
    shift
    run "$name" "$ENGINE" artifact "$@" --state "$STATE" -o json
}

digest_of() { # COMMIT
    artifact digest ls
    jq -r --arg c "$1" '.artifacts[] | select(.releases[]?.commit == $c) | .digest' "$OUT"
}

object() { # KIND DIGEST
    echo "$STATE/store/$1/${2:0:2}/${2:2}"
}

pack_of() { # DIGEST
    artifact pack show "$1"
    jq -r '.packs[0].pack' "$OUT"
}

grow_old() { # all that is in the store now was put ten days ago
    find "$STATE/store"/{manifest,index,pack} -type f -exec touch -d '10 days ago' {} +
}

objects() {
    find "$STATE/store"/{manifest,index,pack} -type f | wc -l
}

flip() { # FILE: one bit in its middle
    local at=$(($(stat -c %s "$1") / 2)) byte
    byte=$(od -An -tu1 -j "$at" -N 1 "$1")
    chmod u+w "$1"
    printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}

one=$COMMIT
deploy first "$POLICY" --regions 1 --agents 2
is "the first deployment succeeds" "$RC" 0
echo two >>"$TMP/repo/policies/quickstart/index.txt"
two=$(commit_all "$TMP/repo" two)
deploy second "$POLICY" --regions 1 --agents 2
echo three >>"$TMP/repo/policies/quickstart/index.txt"
three=$(commit_all "$TMP/repo" three)
deploy third "$POLICY" --regions 1 --agents 2
is "three versions are deployed" "$RC $(field .commit)" "0 $three"

# --- looking ---

artifact ls ls
is "ls lists them" "$RC $(field '.artifacts | length')" "0 3"
is "all are in the store, with a pack each" "$(field '[.artifacts[] | .stored and .packs == 1] | all')" true
is "and named by a deployment each" "$(field '[.artifacts[].deployments | length == 1] | all')" true
a=$(digest_of "$one") b=$(digest_of "$two") c=$(digest_of "$three")
artifact why ls
like "what runs is needed" "$(field ".artifacts[] | select(.digest == \"$c\") | .reasons | join(\";\")")" 'runs it in r1'
like "so is what it would go back to" "$(field ".artifacts[] | select(.digest == \"$b\") | .reasons | join(\";\")")" 'go back to it'
run text "$ENGINE" artifact ls --state "$STATE"
like "for people, a line each" "$(cat "$OUT")" "^${c:0:12}  hello .*${three:0:7}.* 1 pack "

artifact show show "${c:0:8}"
is "show names the tree" "$RC $(field '[.tree[] | select(.path == "bin/hello") | .mode] | first')" "0 493"
run text "$ENGINE" artifact show "$c" --state "$STATE"
like "for people too" "$(cat "$OUT")" '0755 +[0-9]+  bin/hello'
artifact none show 00000000
is "an unknown artifact exits 2" "$RC" 2

artifact export export "$c" "$TMP/tree"
is "export writes the tree" "$RC" 0
check "which is what the machines have" diff -r "$TMP/tree" \
    "$(machine_root r1-m1)/services/hello/current/tree"
artifact again export "$c" "$TMP/tree"
is "but not over what is there" "$RC" 2

# --- rot ---

artifact verify verify --all
is "all is good" "$RC $(field '"\(.artifacts) \(.good) \(.rotten)"')" "0 3 6 0"
pack=$(pack_of "$c")
cp -r "$STATE/store" "$TMP/mirror"
flip "$(object pack "$pack")"
artifact rotten verify "$c"
is "a flipped bit is found: exit 5" "$RC $(field .rotten)" "5 1"
like "and named" "$(field '.objects[0] | "\(.kind) \(.name) \(.reason)"')" "pack $pack .*leaf 0"
check "the pack was moved aside" test -e "$STATE/store/corrupt/pack-$pack"
check "and is not given to anybody" test ! -e "$(object pack "$pack")"
artifact healed verify --all --from "$STATE/regions/r1/data/store" --rate 500M
is "a region's copy heals it: exit 0" "$RC $(field '"\(.healed) \(.rotten)"')" "0 1 0"
check "it is what it was" cmp "$(object pack "$pack")" "$TMP/mirror/pack/${pack:0:2}/${pack:2}"

rm "$(object index "$pack")"
artifact reindex verify --all
is "a lost index is made from its pack" "$RC $(field .healed)" "0 1"
rm "$(object manifest "$c")" "$(object index "$pack")" "$(object pack "$pack")"
artifact lost verify --all
is "a needed artifact that is gone is missed" "$RC" 5
artifact back verify --all --from "$TMP/mirror"
is "and comes back from a mirror" "$RC $(field .healed)" "0 2"
artifact after verify --all
is "then all is good again" "$RC $(field .good)" "0 6"

# --- the same as a duty of the control plane ---

flip "$(object pack "$pack")"
spawn serve "$ENGINE" serve --state "$STATE" --db "sqlite:$STATE/db.sqlite" --scrub-every 1s \
    --scrub-rate 500M --heal-from "$STATE/regions/r1/data/store" --ready-file "$TMP/serve.json"
check "the control plane serves" wait_for 30 test -s "$TMP/serve.json"
by_http() { # PATH
    curl -s -m 10 -H "Authorization: Bearer $(cat "$STATE/admin.token")" \
        "http://127.0.0.1:$(jq -r .http "$TMP/serve.json")$1"
}
told() { by_http '/v1/events?after=0' | jq -e '.events[] | select(.kind == "scrub")' >"$TMP/event.json"; }
check "it finds rot by itself, and says so" wait_for 30 told
is "which pack, and that it is healed" "$(jq -rs '.[0].data | "\(.name) \(.verdict)"' "$TMP/event.json")" "$pack healed"
check "it is what it was" cmp "$(object pack "$pack")" "$TMP/mirror/pack/${pack:0:2}/${pack:2}"
like "and counts it" "$(by_http /metrics)" 'slipway_scrub_objects_total\{verdict="healed"\} 1'
stop serve

# --- garbage ---

before=$(objects)
artifact young gc --keep 1
is "what is young is not collected" "$RC $(field '"\(.deleted) \(.young)"')" "0 0 1"
grow_old
artifact dry gc --keep 1 --dry-run
is "a dry run finds the first version" "$RC $(field '"\(.deleted) \(.kept) \(.young)"')" "0 1 2 0"
is "and nothing else" "$(field '[.objects[].artifact] | unique | join(" ")')" "$a"
is "index first, then pack, then manifest" "$(field '[.objects[].kind] | join(" ")')" "index pack manifest"
is "and tells the bytes" "$(field .bytes)" \
    "$(($(stat -c %s "$(object pack "$(pack_of "$a")")") + $(stat -c %s "$(object manifest "$a")")))"
is "but deletes nothing" "$(objects)" "$before"
artifact default gc
is "by default five good releases stay" "$(field '"\(.deleted) \(.kept)"')" "0 3"
artifact gc gc --keep 1
is "gc deletes it" "$RC $(field .deleted)" "0 1"
is "it is gone" "$(objects)" "$((before - 3))"
artifact ls ls
is "and forgotten" "$(field '.artifacts | length')" 2
artifact verify verify --all
is "the rest is whole" "$RC $(field '"\(.good) \(.rotten)"')" "0 4 0"

deploy anew "$POLICY" --commit "$one" --regions 1 --agents 2
is "the first version is built anew and runs" "$RC $(field .machines.healthy)" "0 2"
is "as the same artifact" "$(field '.artifacts[0].digest')" "$a"

# --- what a person gets wrong ---

refused() { # WHAT EXPECTED ARGUMENT…: exit 2 and these words; nothing is asked or made
    local what=$1 expected=$2
    shift 2
    run refused "$ENGINE" artifact "$@"
    is "$what: exit 2" "$RC" 2
    like "$what: said" "$(cat "$ERR")" "$expected"
}
mkdir "$TMP/nothing"
refused "a directory that is no store" "$TMP/nothing is no store" ls --store "$TMP/nothing"
refused "nor one to heal from" "from $TMP/nothing is no store" verify --all --from "$TMP/nothing" --state "$STATE"
is "it stays empty" "$(ls "$TMP/nothing")" ""
refused "verify has no dry run" 'dry-run is for artifact gc, not for artifact verify' verify --all --dry-run --state "$STATE"
refused "gc has no rate" 'rate is for artifact verify' gc --rate 1M --state "$STATE"
refused "too few releases" 'keep -1: it is 0 to 1000' gc --keep -1 --state "$STATE"
refused "too many" 'keep 1001: it is 0 to 1000' gc --keep 1001 --state "$STATE"
refused "no such verb" 'usage: engine artifact' lost --state "$TMP/nothing"

# --- a store by itself ---

run bare "$ENGINE" artifact ls --store "$STATE/store" -o json
is "a bare store lists what it has" "$RC $(field '.artifacts | length')" "0 3"
run bare "$ENGINE" artifact gc --store "$STATE/store" --grace 0
is "but does not collect without knowing what is needed" "$RC" 2
grow_old
printf '# what we keep\n%s\n%s\n' "$a" "$c" >"$TMP/keep"
run bare "$ENGINE" artifact gc --store "$STATE/store" --keep-file "$TMP/keep" -o json
is "a list of what is to be kept will do" "$RC $(field '"\(.deleted) \(.kept)"')" "0 1 2"
check "the one that is not on it is gone" test ! -e "$(object manifest "$b")"
STATE=$TMP/other-state
echo four >>"$TMP/repo/policies/quickstart/index.txt"
commit_all "$TMP/repo" four >/dev/null
deploy other "$POLICY" --regions 1 --agents 1
rm -rf "$STATE/store"
cp -r "$TMP/mirror" "$STATE/store"
before=$(objects)
artifact foreign gc
is "a store of another control plane is left alone" "$RC $(objects)" "2 $before"
check_no_leftovers
