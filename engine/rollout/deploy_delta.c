/* deploy_delta.c - delta packs beside a deployment. They save bytes and never decide anything:
 * asked for when the release is signed, told to the regions whenever one is ready. The machines'
 * goal waits for them only as long as moving the full packs would take (at DELTA_WAIT_RATE), and at
 * most DELTA_WAIT_MS. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

static int64_t pack_bytes(const json_t *artifact)
{
    return (int64_t)json_integer_value(json_object_get(artifact, "pack_bytes"));
}

bool deploy_wants_delta(const json_t *artifact)
{
    return pack_bytes(artifact) >= DEPLOY_DELTA_MIN_BYTES;
}

void ask_deltas(struct step *s)
{
    struct deploy *d = s->d;
    int64_t largest = 0, wait;
    size_t i;
    json_t *a;

    if (d->rollback_to[0] == '\0' || strcmp(d->rollback_to, d->release) == 0)
        return;
    json_array_foreach(d->artifacts, i, a)
    {
        if (pack_bytes(a) > largest)
            largest = pack_bytes(a);
    }
    if (largest < DEPLOY_DELTA_MIN_BYTES)
        return;
    wait = largest / (DEPLOY_DELTA_WAIT_RATE / 1000);
    d->delta_asked_ms = s->in->now_ms;
    d->delta_until_ms = s->in->now_ms + (wait < DEPLOY_DELTA_WAIT_MS ? wait : DEPLOY_DELTA_WAIT_MS);
    s->out->want_deltas = true;
}

static bool is_told(const struct deploy *d, const struct deploy_delta *delta)
{
    const json_t *packs = json_object_get(d->delta_packs, delta->artifact);

    for (size_t i = 0; i < json_array_size(packs); i++) {
        if (strcmp(json_string_value(json_array_get(packs, i)), delta->pack) == 0)
            return true;
    }
    return false;
}

static const json_t *find_artifact(const struct deploy *d, const char *digest)
{
    for (size_t i = 0; i < json_array_size(d->artifacts); i++) {
        const json_t *a = json_array_get(d->artifacts, i);

        if (strcmp(json_string_value(json_object_get(a, "artifact")), digest) == 0)
            return a;
    }
    return NULL;
}

static void add(struct step *s, const struct deploy_delta *delta)
{
    struct deploy *d = s->d;
    const json_t *a = find_artifact(d, delta->artifact);
    json_t *packs = json_object_get(d->delta_packs, delta->artifact);

    if (packs == NULL) {
        packs = json_array();
        json_object_set_new(d->delta_packs, delta->artifact, packs);
    }
    json_array_append_new(packs, json_string(delta->pack));
    act_event(s, "delta",
              json_pack("{s:s,s:s,s:s,s:I,s:I}", "artifact", delta->artifact, "base", delta->base,
                        "pack", delta->pack, "bytes", (json_int_t)delta->bytes, "full_bytes",
                        (json_int_t)pack_bytes(a)),
              "a delta of variant %s from artifact %.12s is ready: %lld bytes instead of %lld%s%s",
              json_string_value(json_object_get(a, "variant")), delta->base,
              (long long)delta->bytes, (long long)pack_bytes(a),
              delta->reason[0] == '\0' ? "" : "; ", delta->reason);
}

/* What came to nothing is told once. */
static void note_none(struct step *s, const struct deploy_delta *delta)
{
    struct deploy *d = s->d;

    if (json_object_get(d->delta_packs, delta->artifact) != NULL || d->delta_asked_ms == 0)
        return;
    json_object_set_new(d->delta_packs, delta->artifact, json_array());
    act_event(s, "delta", json_pack("{s:s,s:s}", "artifact", delta->artifact, "base", delta->base),
              "no delta from artifact %.12s: %s", delta->base, delta->reason);
}

void tell_deltas(struct step *s)
{
    bool more = false;

    if (s->d->built_ms == 0 || s->d->nothing_to_do)
        return;
    for (size_t i = 0; i < s->in->ndeltas; i++) {
        const struct deploy_delta *delta = &s->in->deltas[i];

        if (strcmp(delta->state, "none") == 0)
            note_none(s, delta);
        if (strcmp(delta->state, "ready") != 0 || is_told(s->d, delta))
            continue;
        add(s, delta);
        more = true;
    }
    if (more)
        act_replicate(s);
}

/* Does the region hold full pack and delta? Its totals are those of the packs that it knows of. */
static bool region_has(const struct deploy *d, const struct deploy_region_input *r,
                       const struct deploy_delta *delta)
{
    const json_t *a = find_artifact(d, delta->artifact);

    for (size_t i = 0; i < r->nreplicas; i++) {
        const struct deploy_replica *replica = &r->replicas[i];

        if (strcmp(replica->artifact, delta->artifact) == 0)
            return replica->bytes == replica->total &&
                   replica->total >= pack_bytes(a) + delta->bytes;
    }
    return false;
}

/* Worth waiting for: it is being made, or on its way to a region that has machines. */
static bool is_on_its_way(const struct step *s, const struct deploy_delta *delta)
{
    if (strcmp(delta->state, "making") == 0)
        return true;
    if (strcmp(delta->state, "ready") != 0)
        return false;
    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *r = &s->in->regions[i];

        if (r->connected && r->machines > 0 && !region_has(s->d, r, delta))
            return true;
    }
    return false;
}

bool deltas_hold(struct step *s)
{
    struct deploy *d = s->d;
    bool any = d->delta_asked_ms == s->in->now_ms; /* its row is not in this step's input */

    if (d->promoted || s->in->now_ms >= d->delta_until_ms)
        return false;
    for (size_t i = 0; i < s->in->ndeltas; i++)
        any = any || is_on_its_way(s, &s->in->deltas[i]);
    if (!any)
        return false;
    act_waiting(s, "a delta from the release before (at most %lld s)",
                (long long)((d->delta_until_ms - d->delta_asked_ms + 999) / 1000));
    act_wake(s, d->delta_until_ms);
    return true;
}
