/* What the packs are and need. Of the full pack the index is always read, its head only if single
 * segments of it may be needed. Of a delta the head is read if the delta is smaller than anything that is
 * known to give all that is needed: those whose base is a release here first, and the small before the
 * large.
 *
 * Before the fetch each is given a short time; one that is late is left for the time of the fetch, when
 * the late ones take turns after everything else that is to be looked at. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "stage_internal.h"

bool stage_is_exact(const struct stage *s, size_t k)
{
    return bases_manifest(assembly_bases(s->assembly), offer_base(s->packs[k].offer)) != NULL;
}

static void ended(struct stage *s)
{
    s->look = LOOK_NONE;
    timer_stop(&s->limit);
    if (s->working)
        return; /* what is applied meanwhile goes on from here */
    if (s->step == STEP_FETCH && s->packs[s->part].withdrawn)
        stage_leave_withdrawn(s);
    else if (s->step == STEP_PLAN)
        stage_advance(s);
    else if (s->step == STEP_FETCH)
        (void)stage_look(s);
}

/* It may come yet. A delta's head that does not come beside a fetch never will. */
static bool may_come(const struct stage *s)
{
    return s->look == LOOK_INDEX || (s->look == LOOK_HEAD && s->step == STEP_PLAN);
}

/* In this attempt it is not looked at any more. */
static void is_useless(struct stage *s, size_t k, const char *why)
{
    char hex[HASH_HEX];

    if (!s->packs[k].useless)
        log_info("delta pack %.12s is not used: %s", hash_hex(&s->packs[k].hash, hex), why);
    s->packs[k].useless = true;
}

static void too_late(struct timer *t)
{
    struct stage *s = CONTAINER_OF(t, struct stage, limit);
    size_t k = s->looking;
    bool later = may_come(s);
    char hex[HASH_HEX];

    stage_stop_look(s);
    if (k == 0) {
        s->index_late = true;
    } else if (later) {
        if (!s->packs[k].late)
            log_info("delta pack %.12s does not come: on without it, until it does",
                     hash_hex(&s->packs[k].hash, hex));
        s->packs[k].late = true;
        s->after = k;
    } else {
        is_useless(s, k, "it does not come");
    }
    ended(s);
}

void stage_stop_look(struct stage *s)
{
    if (s->look == LOOK_INDEX || s->look == LOOK_MANIFEST)
        exchange_object_cancel(&s->object);
    if (s->look == LOOK_HEAD)
        exchange_fetch_cancel(&s->peek);
    buf_release(&s->object.out);
    timer_stop(&s->limit);
    s->look = LOOK_NONE;
}

static void begin(struct stage *s, enum stage_look look, size_t k, int64_t limit_ms)
{
    s->look = look;
    s->looking = k;
    if (limit_ms > 0)
        timer_start(s->o.loop, &s->limit, limit_ms, 0, too_late);
    else
        timer_stop(&s->limit);
}

/* --- index --- */

static void index_came(struct exchange_object *o, int status)
{
    struct stage *s = CONTAINER_OF(o, struct stage, object);
    struct stage_pack *p = &s->packs[s->looking];
    struct pack_index *x = NULL;
    struct err err = o->err;
    bool fits;

    if (status >= 0)
        status = pack_index_parse(&x, o->out.data, o->out.len, &err);
    buf_release(&o->out);
    if (status == 0)
        offer_new(&p->offer, &p->hash, x);
    fits = status == 0 && offer_fits(p->offer, &s->o.artifact) &&
           (x->kind == PACK_FULL) == (s->looking == 0);
    pack_index_free(x);
    if (!fits && s->looking == 0) {
        timer_stop(&s->limit);
        s->look = LOOK_NONE;
        s->err = err;
        if (status == 0)
            (void)!err_set(&s->err, ERR_CORRUPT, "it is not the full pack of this artifact");
        stage_fail(s, "pack index");
        return;
    }
    if (!fits)
        is_useless(s, s->looking, status == 0 ? "it is of another artifact" : err.text);
    ended(s);
}

/* Where one has not come the next ones are not given as long, before the fetch. */
static int64_t patience_ms(const struct stage *s)
{
    for (size_t k = 1; s->step == STEP_PLAN && k < s->npacks; k++) {
        if (s->packs[k].late)
            return STAGE_IMPATIENCE_MS;
    }
    return STAGE_PATIENCE_MS;
}

static void look_at_index(struct stage *s, size_t k)
{
    bool optional = k > 0 || assembly_needed_bytes(s->assembly) == 0;

    begin(s, LOOK_INDEX, k, !optional ? 0 : k == 0 ? STAGE_INDEX_MS : patience_ms(s));
    exchange_object_start(s->o.exchange, &s->object, &s->packs[k].hash, EXCHANGE_INDEX_MAX,
                          index_came);
}

/* --- table --- */

static void run_table(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);

    s->status = assembly_read(s->assembly, s->packs[s->looking].offer, s->path, &s->err);
}

static void table_read(struct work *w)
{
    struct stage *s = CONTAINER_OF(w, struct stage, work);
    size_t k = s->looking;

    if (stage_worked(s))
        return;
    s->look = LOOK_NONE;
    if (s->status < 0 && k == 0) {
        if (s->status == -ERR_CORRUPT)
            stage_forget_pack(s, 0);
        stage_fail(s, "plan");
        return;
    }
    if (s->status < 0) {
        is_useless(s, k, s->err.text);
        stage_forget_pack(s, k);
    }
    if (s->status > 0)
        s->packs[k].opened = false; /* more of its head is needed */
    if (s->fetched || s->fetch_failed) {
        stage_after_fetch(s);
        return;
    }
    if (s->status != 0 || s->step != STEP_FETCH || !stage_consider(s, k))
        ended(s);
}

static void look_at_table(struct stage *s, size_t k)
{
    const char *path = exchange_path(s->o.exchange, &s->packs[k].hash);

    begin(s, LOOK_TABLE, k, 0);
    free(s->path);
    s->path = mem_strdup(path == NULL ? "" : path);
    stage_submit(s, run_table, table_read);
}

/* --- manifest of the base --- */

static void manifest_came(struct exchange_object *o, int status)
{
    struct stage *s = CONTAINER_OF(o, struct stage, object);
    size_t k = s->looking;
    struct manifest *m = NULL;
    struct err err = o->err;

    if (status >= 0)
        status = manifest_parse(&m, o->out.data, o->out.len, &err);
    buf_release(&o->out);
    if (status < 0) {
        is_useless(s, k, err.text);
        ended(s);
        return;
    }
    offer_take_manifest(s->packs[k].offer, m);
    look_at_table(s, k);
}

/* --- head --- */

static void head_came(struct exchange_fetch *f, int status)
{
    struct stage *s = CONTAINER_OF(f, struct stage, peek);
    size_t k = s->looking;
    struct stage_pack *p = &s->packs[k];

    p->opened = true;
    if (status < 0 && k == 0) {
        timer_stop(&s->limit);
        s->look = LOOK_NONE;
        s->err = f->err;
        stage_fail(s, "fetch");
    } else if (status < 0) {
        is_useless(s, k, f->err.text);
        ended(s);
    } else if (offer_is_ready(p->offer) || assembly_needed_bytes(s->assembly) == 0) {
        ended(s); /* it was opened again, or only to be counted and given */
    } else if (offer_lacks_manifest(p->offer, assembly_bases(s->assembly))) {
        begin(s, LOOK_MANIFEST, k, STAGE_MANIFEST_MS);
        exchange_object_start(s->o.exchange, &s->object, offer_base(p->offer), MANIFEST_MAX_BYTES,
                              manifest_came);
    } else {
        look_at_table(s, k);
    }
}

static void look_at_head(struct stage *s, size_t k)
{
    struct bitmap head;
    int64_t limit_ms = s->step == STEP_PLAN ? STAGE_PATIENCE_MS : STAGE_LOOK_MS;

    begin(s, LOOK_HEAD, k, k == 0 ? 0 : limit_ms);
    bitmap_init(&head, offer_head_leaves(s->packs[k].offer, assembly_segments(s->assembly)));
    for (size_t i = 0; i < head.bits; i++)
        bitmap_put(&head, i, true);
    s->peek.weight = s->o.weight;
    s->peek.tally = &s->tally;
    exchange_fetch_some(s->o.exchange, &s->peek, &s->packs[k].hash, &head, head_came);
    bitmap_release(&head);
}

/* --- which one is next --- */

static bool has_file(const struct stage *s, size_t k)
{
    char hex[HASH_HEX];
    AUTO_FREE char *path =
        mem_printf("%s/%s.bitmap", s->o.packs_dir, hash_hex(&s->packs[k].hash, hex));

    return path_exists(path);
}

static bool is_usable(const struct stage *s, size_t k)
{
    const struct stage_pack *p = &s->packs[k];

    return p->offer != NULL && !p->useless && !p->withdrawn;
}

static bool is_put_off(const struct stage *s, size_t k)
{
    return s->packs[k].late && s->step == STEP_PLAN;
}

/* Is there one of no more bytes that gives all that is needed? */
static bool is_beaten(const struct stage *s, size_t k)
{
    for (size_t i = 1; i < s->npacks; i++) {
        if (i != k && is_usable(s, i) &&
            offer_bytes(s->packs[i].offer) <= offer_bytes(s->packs[k].offer) &&
            assembly_is_given(s->assembly, s->packs[i].offer))
            return true;
    }
    return false;
}

/* A new machine has nothing that a delta could be told by. */
static bool has_bases(const struct stage *s)
{
    const struct unpack_base *trees;

    return bases_trees(assembly_bases(s->assembly), &trees) > 0;
}

static bool is_worth_while(const struct stage *s, size_t k)
{
    uint64_t most = offer_bytes(s->packs[0].offer);

    if (s->step == STEP_FETCH && stage_remaining(s) < most)
        most = stage_remaining(s);
    return is_usable(s, k) && !is_put_off(s, k) && !offer_is_ready(s->packs[k].offer) &&
           has_bases(s) && offer_bytes(s->packs[k].offer) < most && !is_beaten(s, k);
}

/* The delta to be looked at next, or npacks. */
static size_t best_delta(const struct stage *s)
{
    size_t best = s->npacks;

    for (size_t k = 1; k < s->npacks; k++) {
        if (!is_worth_while(s, k))
            continue;
        if (best == s->npacks || stage_is_exact(s, k) > stage_is_exact(s, best) ||
            (stage_is_exact(s, k) == stage_is_exact(s, best) &&
             offer_bytes(s->packs[k].offer) < offer_bytes(s->packs[best].offer)))
            best = k;
    }
    return best;
}

/* Are single segments of the full pack what could be wanted? */
static bool needs_full_table(const struct stage *s)
{
    bool some = false;

    for (size_t k = 1; k < s->npacks; k++) {
        if (!is_usable(s, k) || !offer_is_ready(s->packs[k].offer))
            continue;
        if (assembly_is_given(s->assembly, s->packs[k].offer))
            return false;
        some = true;
    }
    return some || !assembly_needs_all(s->assembly);
}

static bool look_at_heads(struct stage *s)
{
    bool needed = assembly_needed_bytes(s->assembly) > 0;
    size_t k;

    for (k = 0; k < s->npacks; k++) { /* what is on disk counts, and is given to others */
        if (s->step == STEP_PLAN && s->packs[k].offer != NULL && !s->packs[k].opened &&
            !s->packs[k].useless && has_file(s, k)) {
            look_at_head(s, k);
            return true;
        }
    }
    k = needed ? best_delta(s) : s->npacks;
    if (k == s->npacks && !(needed && s->step == STEP_PLAN && !offer_is_ready(s->packs[0].offer) &&
                            needs_full_table(s)))
        return false;
    look_at_head(s, k == s->npacks ? 0 : k);
    return true;
}

static bool lacks_index(const struct stage *s, size_t k, bool needed)
{
    const struct stage_pack *p = &s->packs[k];

    return p->offer == NULL && !p->useless && !p->withdrawn && !(k == 0 && s->index_late) &&
           (k == 0 || needed || has_file(s, k));
}

/* The next of those that are late, in turn; npacks: there is none. */
static size_t next_late(const struct stage *s, bool needed)
{
    for (size_t i = 1; i <= s->npacks; i++) {
        size_t k = (s->after + i) % s->npacks;

        if (s->packs[k].late && lacks_index(s, k, needed))
            return k;
    }
    return s->npacks;
}

bool stage_look(struct stage *s)
{
    bool needed;
    size_t k;

    if (s->look != LOOK_NONE || s->working)
        return false;
    needed = assembly_needed_bytes(s->assembly) > 0;
    for (k = 0; k < s->npacks; k++) {
        if (!s->packs[k].late && lacks_index(s, k, needed)) {
            look_at_index(s, k);
            return true;
        }
    }
    if (s->packs[0].offer == NULL)
        return false;
    if (look_at_heads(s))
        return true;
    k = s->step == STEP_FETCH ? next_late(s, needed) : s->npacks;
    if (k < s->npacks)
        look_at_index(s, k);
    return k < s->npacks;
}
