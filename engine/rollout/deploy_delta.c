/* deploy_delta.c - delta packs beside a deployment. They save bytes and never decide anything: told to
 * the regions whenever one is ready, and joined live by machines that are fetching already.
 *
 * The first of an artifact is asked for when the release is signed: from the version that most machines
 * run (or the last good release, where nobody knows what they run). The machines' goal waits for it,
 * but no longer than moving the full packs would take (at DELTA_WAIT_RATE), and at most DELTA_WAIT_MS.
 * When it is ready or has come to nothing the next base is asked for, and so on, one at a time, late:
 * versions that machines still run by then, by how many do, DELTA_MORE at most. Nothing waits for
 * those. When the deployment ends or goes back, what is still being made is dropped. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"

static int64_t pack_bytes(const json_t *artifact)
{
    return (int64_t)json_integer_value(json_object_get(artifact, "pack_bytes"));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text == NULL ? "" : text;
}

static bool is(const json_t *object, const char *key, const char *value)
{
    return strcmp(text_of(object, key), value) == 0;
}

static const json_t *find_artifact(const struct deploy *d, const char *digest)
{
    for (size_t i = 0; i < json_array_size(d->artifacts); i++) {
        const json_t *a = json_array_get(d->artifacts, i);

        if (is(a, "artifact", digest))
            return a;
    }
    return NULL;
}

static json_t *find_entry(const struct deploy *d, const char *artifact, const char *base)
{
    for (size_t i = 0; i < json_array_size(d->deltas); i++) {
        json_t *e = json_array_get(d->deltas, i);

        if (is(e, "artifact", artifact) && is(e, "base", base))
            return e;
    }
    return NULL;
}

/* --- asking --- */

/* Is there room for one more of this artifact, and none of it in the making? */
static bool may_ask(const struct deploy *d, const json_t *a)
{
    size_t n = 0;

    if (pack_bytes(a) < DEPLOY_DELTA_MIN_BYTES)
        return false;
    for (size_t i = 0; i < json_array_size(d->deltas); i++) {
        const json_t *e = json_array_get(d->deltas, i);

        if (!is(e, "artifact", text_of(a, "artifact")))
            continue;
        if (is(e, "state", "making"))
            return false;
        n++;
    }
    return n <= DEPLOY_DELTA_MORE;
}

static bool goes_forward(const struct deploy *d)
{
    return d->state == DEPLOY_REPLICATING || d->state == DEPLOY_ROLLING ||
           (d->state == DEPLOY_HELD && d->held_from != DEPLOY_ROLLING_BACK);
}

bool deploy_wants_bases(const struct deploy *d)
{
    if (d->state == DEPLOY_BUILDING)
        return true; /* the step that takes the artifacts asks, too */
    for (size_t i = 0; goes_forward(d) && i < json_array_size(d->artifacts); i++) {
        if (may_ask(d, json_array_get(d->artifacts, i)))
            return true;
    }
    return false;
}

static const struct deploy_base *best_base(const struct step *s, const json_t *a, bool first)
{
    const struct deploy_base *best = NULL;

    for (size_t i = 0; i < s->in->nbases; i++) {
        const struct deploy_base *b = &s->in->bases[i];

        if (!is(a, "variant", b->variant) || is(a, "artifact", b->artifact) ||
            find_entry(s->d, text_of(a, "artifact"), b->artifact) != NULL ||
            (b->machines == 0 && !first))
            continue;
        if (best == NULL || b->machines > best->machines)
            best = b;
    }
    return best;
}

/* False: no base is left that would be worth it. */
static bool ask_next(struct step *s, const json_t *a, bool first)
{
    const struct deploy_base *base = may_ask(s->d, a) ? best_base(s, a, first) : NULL;
    struct deploy_want *w;

    if (base == NULL)
        return false;
    s->out->wants = mem_realloc(s->out->wants, (s->out->nwants + 1) * sizeof(*w));
    w = &s->out->wants[s->out->nwants++];
    *w = (struct deploy_want){ mem_strdup(text_of(a, "artifact")), mem_strdup(base->artifact),
                               !first };
    json_array_append_new(s->d->deltas,
                          json_pack("{s:s,s:s,s:I,s:I,s:s}", "artifact", w->artifact, "base",
                                    w->base, "machines", (json_int_t)base->machines, "at",
                                    (json_int_t)s->in->now_ms, "state", "making"));
    return true;
}

void ask_deltas(struct step *s)
{
    struct deploy *d = s->d;
    int64_t largest = 0, wait;
    size_t i;
    json_t *a;

    json_array_foreach(d->artifacts, i, a)
    {
        if (ask_next(s, a, true) && pack_bytes(a) > largest)
            largest = pack_bytes(a);
    }
    wait = largest / (DEPLOY_DELTA_WAIT_RATE / 1000);
    if (largest > 0)
        d->delta_until_ms =
            s->in->now_ms + (wait < DEPLOY_DELTA_WAIT_MS ? wait : DEPLOY_DELTA_WAIT_MS);
}

/* --- telling --- */

void deltas_append(const struct deploy *d, const char *artifact, json_t *packs)
{
    for (size_t i = 0; i < json_array_size(d->deltas); i++) {
        const json_t *e = json_array_get(d->deltas, i);

        if (is(e, "artifact", artifact) && is(e, "state", "ready"))
            json_array_append(packs, json_object_get(e, "pack"));
    }
}

/* "lib/a.so.gz (1234 bytes) and 2 more are compressed (5678 bytes in all): a delta can't help there" */
static void describe_packed(const json_t *packed, struct buf *out)
{
    const json_t *names = json_object_get(packed, "packed");
    long long n = (long long)json_integer_value(json_object_get(packed, "npacked"));
    size_t named = json_array_size(names);

    if (n == 0)
        return;
    for (size_t i = 0; i < named; i++) {
        const json_t *one = json_array_get(names, i);

        buf_printf(out, "%s%s (%lld bytes)", i == 0 ? "; " : ", ", text_of(one, "path"),
                   (long long)json_integer_value(json_object_get(one, "bytes")));
    }
    if (n > (long long)named)
        buf_printf(out, " and %lld more", n - (long long)named);
    buf_printf(out, " %s compressed: a delta can't help there", n == 1 ? "is" : "are");
}

static void note_ready(struct step *s, json_t *e, const struct deploy_delta *delta)
{
    const json_t *a = find_artifact(s->d, delta->artifact);
    AUTO_BUF packed = BUF_INIT;

    describe_packed(delta->packed, &packed);
    json_object_set_new(e, "state", json_string("ready"));
    json_object_set_new(e, "pack", json_string(delta->pack));
    json_object_set_new(e, "bytes", json_integer((json_int_t)delta->bytes));
    act_event(s, "delta",
              json_pack("{s:s,s:s,s:s,s:I,s:I,s:O*}", "artifact", delta->artifact, "base",
                        delta->base, "pack", delta->pack, "bytes", (json_int_t)delta->bytes,
                        "full_bytes", (json_int_t)pack_bytes(a), "packed", delta->packed),
              "a delta of variant %s from artifact %.12s is ready: %lld bytes instead of %lld%s",
              text_of(a, "variant"), delta->base, (long long)delta->bytes, (long long)pack_bytes(a),
              buf_str(&packed));
}

static void note_none(struct step *s, json_t *e, const struct deploy_delta *delta,
                      const char *reason)
{
    const char *artifact = text_of(e, "artifact"), *base = text_of(e, "base");
    const json_t *packed = delta == NULL ? NULL : delta->packed;
    AUTO_BUF text = BUF_INIT;

    describe_packed(packed, &text);
    json_object_set_new(e, "state", json_string("none"));
    json_object_set_new(e, "reason", json_string(reason));
    act_event(s, "delta",
              json_pack("{s:s,s:s,s:s,s:O*}", "artifact", artifact, "base", base, "reason", reason,
                        "packed", packed),
              "no delta of variant %s from artifact %.12s: %s%s",
              text_of(find_artifact(s->d, artifact), "variant"), base, reason, buf_str(&text));
}

static size_t count_entries(const struct deploy *d, const char *artifact)
{
    size_t n = 0;

    for (size_t i = 0; i < json_array_size(d->deltas); i++)
        n += is(json_array_get(d->deltas, i), "artifact", artifact);
    return n;
}

/* One that another deployment has made is as good as one of our own, as long as there is room. */
static json_t *entry_of(struct step *s, const struct deploy_delta *delta)
{
    json_t *e = find_entry(s->d, delta->artifact, delta->base);

    if (e != NULL || strcmp(delta->state, "ready") != 0 ||
        count_entries(s->d, delta->artifact) > DEPLOY_DELTA_MORE)
        return e;
    e = json_pack("{s:s,s:s,s:i,s:I}", "artifact", delta->artifact, "base", delta->base, "machines",
                  0, "at", (json_int_t)s->in->now_ms);
    json_array_append_new(s->d->deltas, e);
    return e;
}

/* A row that says "none" of what was asked for in this turn is the one from before: it is tried again. */
static bool is_stale(const struct step *s, const json_t *e)
{
    return is(e, "state", "making") &&
           (int64_t)json_integer_value(json_object_get(e, "at")) == s->in->now_ms;
}

/* True: the regions are to be told of one more. */
static bool take_delta(struct step *s, const struct deploy_delta *delta)
{
    json_t *e = entry_of(s, delta);
    bool ready = strcmp(delta->state, "ready") == 0;

    if (e == NULL || is(e, "state", "ready") || is(e, "state", "none") ||
        (!ready && (strcmp(delta->state, "none") != 0 || is_stale(s, e))))
        return false;
    if (delta->packed != NULL)
        json_object_update_missing(e, (json_t *)(uintptr_t)delta->packed);
    if (ready)
        note_ready(s, e, delta);
    else
        note_none(s, e, delta, delta->reason);
    return ready;
}

static bool is_known(const struct step *s, const json_t *e)
{
    for (size_t i = 0; i < s->in->ndeltas; i++) {
        const struct deploy_delta *delta = &s->in->deltas[i];

        if (is(e, "artifact", delta->artifact) && is(e, "base", delta->base))
            return true;
    }
    return false;
}

/* What was asked for in this step, or in one just before, is not in this step's input. */
static void note_lost(struct step *s)
{
    for (size_t i = 0; i < json_array_size(s->d->deltas); i++) {
        json_t *e = json_array_get(s->d->deltas, i);
        int64_t at = (int64_t)json_integer_value(json_object_get(e, "at"));

        if (is(e, "state", "making") && s->in->now_ms - at > DEPLOY_DELTA_LOST_MS &&
            !is_known(s, e))
            note_none(s, e, NULL, "its job is gone");
    }
}

void tend_deltas(struct step *s)
{
    struct deploy *d = s->d;
    bool more = false;

    if (d->built_ms == 0 || d->nothing_to_do || deploy_state_is_final(d->state))
        return;
    for (size_t i = 0; i < s->in->ndeltas; i++) {
        if (find_artifact(d, s->in->deltas[i].artifact) != NULL)
            more = take_delta(s, &s->in->deltas[i]) || more;
    }
    note_lost(s);
    if (more)
        act_replicate(s);
    for (size_t i = 0; goes_forward(d) && i < json_array_size(d->artifacts); i++)
        (void)ask_next(s, json_array_get(d->artifacts, i), false);
}

/* --- waiting --- */

/* Does the region hold full pack and delta? Its totals are those of the packs that it knows of. */
static bool region_has(const struct deploy_region_input *r, const json_t *a, int64_t delta_bytes)
{
    for (size_t i = 0; i < r->nreplicas; i++) {
        const struct deploy_replica *replica = &r->replicas[i];

        if (is(a, "artifact", replica->artifact))
            return replica->bytes == replica->total &&
                   replica->total >= pack_bytes(a) + delta_bytes;
    }
    return false;
}

/* Worth waiting for: it is being made, or on its way to a region that has machines. */
static bool is_on_its_way(const struct step *s, const json_t *a, const json_t *e)
{
    if (is(e, "state", "making"))
        return true;
    if (!is(e, "state", "ready"))
        return false;
    for (size_t i = 0; i < s->in->nregions; i++) {
        const struct deploy_region_input *r = &s->in->regions[i];

        if (r->connected && r->machines > 0 &&
            !region_has(r, a, (int64_t)json_integer_value(json_object_get(e, "bytes"))))
            return true;
    }
    return false;
}

static const json_t *first_entry(const struct deploy *d, const json_t *a)
{
    for (size_t i = 0; i < json_array_size(d->deltas); i++) {
        const json_t *e = json_array_get(d->deltas, i);

        if (is(e, "artifact", text_of(a, "artifact")))
            return e;
    }
    return NULL;
}

bool deltas_hold(struct step *s)
{
    struct deploy *d = s->d;
    bool any = false;

    if (d->promoted || s->in->now_ms >= d->delta_until_ms)
        return false;
    for (size_t i = 0; i < json_array_size(d->artifacts); i++) {
        const json_t *a = json_array_get(d->artifacts, i), *e = first_entry(d, a);

        any = any || (e != NULL && is_on_its_way(s, a, e));
    }
    if (!any)
        return false;
    act_waiting(s, "a delta from what the machines run (until %lld s after the release was signed)",
                (long long)((d->delta_until_ms - d->built_ms + 999) / 1000));
    act_wake(s, d->delta_until_ms);
    return true;
}
