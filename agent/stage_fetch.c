/* Plan, fetch, apply: until nothing is needed. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "stage_internal.h"

/* --- what is told --- */

static void say_bytes(struct buf *out, uint64_t bytes)
{
    if (bytes < 1000000)
        buf_printf(out, "%.1f KB", (double)bytes / 1e3);
    else
        buf_printf(out, "%.1f MB", (double)bytes / 1e6);
}

/* Why the plan is no better: what became of the deltas that were offered. */
static void say_why(const struct stage *s, struct buf *out)
{
    size_t deltas = 0, useless = 0, large = 0;

    for (size_t k = 1; k < s->npacks; k++) {
        const struct stage_pack *p = &s->packs[k];

        deltas += !p->withdrawn;
        useless += !p->withdrawn && p->useless;
        large += !p->withdrawn && !p->useless && p->offer != NULL &&
                 offer_bytes(p->offer) >= offer_bytes(s->packs[0].offer);
    }
    if (deltas == 0)
        buf_str_append(out, "no delta is offered");
    else
        buf_printf(out, "of %zu deltas %zu are of no use and %zu not smaller", deltas, useless,
                   large);
}

static void say_part(const struct stage *s, size_t k, struct buf *out)
{
    char hex[HASH_HEX];

    if (k > 0)
        buf_printf(out, "delta from %.12s (", hash_hex(offer_base(s->packs[k].offer), hex));
    else if (s->plan.take[0].set < assembly_segments(s->assembly))
        buf_printf(out, "%zu of %zu segments of the full pack (", s->plan.take[0].set,
                   assembly_segments(s->assembly));
    else
        buf_str_append(out, "the full pack (");
    say_bytes(out, s->plan.missing[k]);
    buf_str_append(out, ")");
}

/* "delta from 9ad1… (1.2 MB) instead of the full pack (81.0 MB)" */
static void say_plan(const struct stage *s)
{
    char hex[HASH_HEX];
    AUTO_BUF text = BUF_INIT;

    for (size_t i = s->npacks; i-- > 0;) {
        if (!plan_uses(&s->plan, i))
            continue;
        if (text.len > 0)
            buf_str_append(&text, " and ");
        say_part(s, i, &text);
    }
    if (plan_uses(&s->plan, 0) && s->plan.take[0].set == assembly_segments(s->assembly)) {
        buf_str_append(&text, ": ");
        say_why(s, &text);
    } else {
        buf_str_append(&text, " instead of the full pack (");
        say_bytes(&text, offer_bytes(s->packs[0].offer));
        buf_str_append(&text, ")");
    }
    log_info("release %.12s: fetch %s", hash_hex(&s->o.release, hex), buf_str(&text));
}

/* --- apply --- */

static void run_apply(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_apply(s->assembly, s->packs[s->part].offer, s->path,
                               &s->plan.take[s->part], &s->refused, &s->err);
}

/* Something is wrong with the pack, or with a delta's base. The first time its leaves on disk are
 * hashed anew: those that have rotted come again. */
static bool recheck(struct stage *s, struct stage_pack *p)
{
    if (p->rechecked)
        return false;
    p->rechecked = true;
    p->opened = false;
    offer_forgive(p->offer);
    exchange_close(s->o.exchange, &p->hash);
    return true;
}

static void applied(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);
    struct stage_pack *p = &s->packs[s->part];
    bool bad = s->status == -ERR_CORRUPT || s->status == -ERR_NOT_FOUND || s->refused > 0;

    if (stage_worked(s))
        return;
    if (s->status < 0 && (!bad || (p->rechecked && s->part == 0))) {
        if (s->status == -ERR_CORRUPT)
            stage_forget_pack(s, s->part);
        stage_fail(s, "unpack");
        return;
    }
    if (bad && !recheck(s, p)) {
        if (s->status < 0) {
            log_warn("the delta is not used: %s", s->err.text);
            stage_forget_pack(s, s->part);
            p->useless = true;
        } else {
            log_info("%zu segments are taken from elsewhere: files that the delta needs are gone, "
                     "or have rotted",
                     s->refused);
        }
    }
    stage_enter(s, STEP_PLAN);
    stage_advance(s);
}

static void stage_apply(struct stage *s)
{
    const char *path = exchange_path(s->o.exchange, &s->packs[s->part].hash);

    s->fetched = false;
    stage_enter(s, STEP_APPLY);
    s->refused = 0;
    free(s->path);
    s->path = mem_strdup(path == NULL ? "" : path);
    stage_submit(s, run_apply, applied);
}

/* --- apply while more comes --- */

static void run_early(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_apply(s->assembly, s->packs[s->part].offer, s->path, &s->ripe, &s->refused,
                               &s->err);
}

static void early_done(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    if (stage_worked(s))
        return;
    s->early_ends = s->status < 0 || s->refused > 0;
    if (s->early_ends && s->status < 0)
        log_debug("not applied yet: %s", s->err.text);
    s->err = (struct err)ERR_INIT;
    if (s->fetched || s->fetch_failed) {
        stage_stop_look(s);
        stage_after_fetch(s);
    } else if (s->packs[s->part].withdrawn) {
        stage_leave_withdrawn(s);
    } else {
        (void)stage_look(s);
    }
}

/* Of a pack whose table has not been read: is it here? Then no segment is ripe yet, and it is read. */
static bool is_ripe(struct stage *s, const struct bitmap *here)
{
    const struct offer *o = s->packs[s->part].offer;
    size_t segments = assembly_segments(s->assembly), head = offer_head_leaves(o, segments);

    bitmap_release(&s->ripe);
    if (offer_is_ready(o))
        return assembly_ripe(s->assembly, o, &s->plan.take[s->part], here, STAGE_EARLY_SEGMENTS,
                             &s->ripe) > 0;
    bitmap_init(&s->ripe, segments);
    for (size_t i = 0; i < head; i++) {
        if (i >= here->bits || !bitmap_get(here, i))
            return false;
    }
    return true;
}

static void look_early(struct timer *t)
{
    struct stage *s = CONTAINER_OF(t, struct stage, early);
    const struct hash *pack = &s->packs[s->part].hash;
    const struct bitmap *here = exchange_bitmap(s->o.exchange, pack);
    char hex[HASH_HEX];

    if (s->working || (s->look != LOOK_NONE && s->look != LOOK_INDEX) || s->early_ends ||
        here == NULL || !is_ripe(s, here))
        return; /* a look that may soon want the pool goes first */
    free(s->path);
    s->path = mem_printf("%s/%s.pack", s->packs_dir, hash_hex(pack, hex));
    s->refused = 0;
    stage_submit(s, run_early, early_done);
}

/* --- fetch --- */

uint64_t stage_remaining(const struct stage *s)
{
    uint64_t bytes = s->plan.missing_bytes;

    if (s->fetch.total_bytes > 0) /* it is open: what of it is here already is counted */
        bytes = bytes - s->plan.missing[s->part] + s->fetch.total_bytes - s->fetch.have_bytes;
    return bytes;
}

void stage_stop_fetch(struct stage *s)
{
    timer_stop(&s->stall);
    timer_stop(&s->early);
    exchange_fetch_cancel(&s->fetch);
}

void stage_after_fetch(struct stage *s)
{
    if (s->fetched) {
        stage_apply(s);
        return;
    }
    s->err = s->fetch_err;
    stage_fail(s, "fetch");
}

static void fetched(struct exchange_fetch *f, int status)
{
    struct stage *s = CONTAINER_OF(f, struct stage, fetch);

    timer_stop(&s->stall);
    timer_stop(&s->early);
    s->fetched = status >= 0;
    s->fetch_failed = status < 0;
    s->fetch_err = f->err;
    if (s->working)
        return; /* the pool reads a table, or applies, and err is its: then */
    stage_stop_look(s);
    stage_after_fetch(s);
}

static void plan_anew(struct stage *s)
{
    stage_stop_look(s);
    stage_stop_fetch(s);
    stage_enter(s, STEP_PLAN);
    stage_advance(s);
}

void stage_leave_withdrawn(struct stage *s)
{
    char hex[HASH_HEX];

    log_info("delta pack %.12s is withdrawn", hash_hex(&s->packs[s->part].hash, hex));
    plan_anew(s);
}

/* Not a byte of a delta has come for long: deltas never gate. */
static void stalled(struct timer *t)
{
    struct stage *s = CONTAINER_OF(t, struct stage, stall);
    char hex[HASH_HEX];

    if (s->fetch.have_bytes != s->moved_bytes) {
        s->moved_bytes = s->fetch.have_bytes;
        return;
    }
    if (s->working)
        return;
    log_warn("delta pack %.12s does not come", hash_hex(&s->packs[s->part].hash, hex));
    s->packs[s->part].useless = true;
    plan_anew(s);
}

static void fetch_part(struct stage *s)
{
    const struct bitmap *leaves;

    s->part = 0;
    for (size_t k = 1; k < s->plan.npacks;
         k++) { /* deltas first: who knows whether all of it fits */
        if (plan_uses(&s->plan, k))
            s->part = k;
    }
    leaves = &s->plan.leaves[s->part];
    stage_enter(s, STEP_FETCH);
    s->packs[s->part].opened = true;
    if (s->part > 0) {
        s->moved_bytes = 0;
        timer_start(s->o.loop, &s->stall, STAGE_LOOK_MS, STAGE_LOOK_MS, stalled);
    }
    s->early_ends = false;
    timer_start(s->o.loop, &s->early, STAGE_EARLY_MS, STAGE_EARLY_MS, look_early);
    s->fetch.weight = s->o.weight;
    s->fetch.tally = &s->tally;
    if (bitmap_full(leaves))
        exchange_fetch_start(s->o.exchange, &s->fetch, &s->packs[s->part].hash, fetched);
    else
        exchange_fetch_some(s->o.exchange, &s->fetch, &s->packs[s->part].hash, leaves, fetched);
    (void)stage_look(s);
}

bool stage_consider(struct stage *s, size_t k)
{
    char hex[HASH_HEX];

    if (s->packs[k].useless || s->packs[k].withdrawn ||
        offer_bytes(s->packs[k].offer) >= stage_remaining(s))
        return false;
    log_info("release %.12s: a delta has joined, %" PRIu64 " bytes are still to come without it",
             hash_hex(&s->o.release, hex), stage_remaining(s));
    plan_anew(s);
    return true;
}

/* --- plan --- */

static void run_plan(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_plan(s->assembly, s->offers, s->npacks, s->here, &s->plan, &s->err);
}

/* Meanwhile, of what would have to be fetched? */
static bool is_withdrawn(const struct stage *s)
{
    for (size_t k = 1; k < s->plan.npacks; k++) {
        if (s->packs[k].withdrawn && s->plan.missing[k] > 0)
            return true;
    }
    return false;
}

static void planned(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    if (stage_worked(s))
        return;
    if (s->status < 0) {
        stage_fail(s, "plan");
        return;
    }
    if (is_withdrawn(s)) {
        stage_advance(s);
        return;
    }
    s->planned = true;
    s->wanted_bytes = stage_fetched_bytes(s, NULL, NULL) + s->plan.missing_bytes;
    say_plan(s);
    fetch_part(s);
}

/* What the pool may look at: the packs as they are now. */
static void submit_plan(struct stage *s)
{
    for (size_t k = 0; k < s->npacks; k++) {
        struct stage_pack *p = &s->packs[k];
        uint64_t seed, peer;
        const struct bitmap *here = exchange_leaves(s->o.exchange, &p->hash, &seed, &peer);

        /* A withdrawn one is as good as any other if all of it is here. */
        s->offers[k] =
            p->useless || (p->withdrawn && (here == NULL || !bitmap_full(here))) ? NULL : p->offer;
        bitmap_release(&s->here[k]);
        bitmap_init(&s->here[k], here == NULL ? 0 : here->bits);
        if (here != NULL)
            (void)bitmap_load(&s->here[k], here->bytes, bitmap_size(here));
    }
    plan_release(&s->plan);
    stage_submit(s, run_plan, planned);
}

void stage_advance(struct stage *s)
{
    if (stage_look(s))
        return;
    if (assembly_needed_bytes(s->assembly) == 0)
        stage_finish(s);
    else
        submit_plan(s);
}
