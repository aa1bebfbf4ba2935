#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "store/exchange_internal.h"

/* One leaf on its way from disk to a link. */
struct giving {
    struct work work;
    struct exchange *x;
    struct exchange_link *l;
    struct exchange_pack *p;
    uint32_t leaf;
    size_t len;
    unsigned char *bytes;
    int status;
};

static void refuse(struct exchange_link *l, const struct msg_want *m, enum err_code code)
{
    struct msg_refuse r = { m->pack, m->first, m->count, (uint16_t)code };
    struct err err = ERR_INIT;

    l->x->counts.refused++;
    if (link_send(l->link, MSG_REFUSE, &r, &err) < 0)
        log_debug("refuse %s: %s", link_peer_id(l->link), err.text);
}

static bool have_range(const struct exchange_pack *p, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!bitmap_get(picker_have(p->picker), (size_t)first + i))
            return false;
    return true;
}

void give_on_want(struct exchange_link *l, const struct msg_want *m)
{
    const struct exchange_pack *p = pack_find(l->x, &m->pack);

    if (m->count == 0 || m->count > PIECE_LEAVES_MAX || p == NULL || p->index == NULL ||
        !have_range(p, m->first, m->count)) {
        refuse(l, m, ERR_NOT_FOUND);
        return;
    }
    if (l->wanted_leaves + m->count > EXCHANGE_QUEUE_MAX) {
        refuse(l, m, ERR_AGAIN);
        return;
    }
    VEC_GROW(l->wants, l->nwants, l->wants_cap);
    l->wants[l->nwants++] = (struct want){ m->pack, m->first, m->count };
    l->wanted_leaves += m->count;
    if (l->nwants == 1)
        list_push(&l->x->wanting, &l->wanting);
    give_more(l->x);
}

/* How much of the pack that it asks for first the link's other side has: the least complete is served
 * first, which is what keeps the last machine close behind the first. */
static size_t completeness(struct exchange_link *l)
{
    const struct hash *hash = &l->wants[0].pack;
    struct exchange_pack *p = pack_find(l->x, hash);
    struct link_pack *lp = link_pack_find(l, hash);

    if (p == NULL || p->picker == NULL || lp == NULL || lp->peer < 0)
        return 0;
    return picker_peer_has(p->picker, lp->peer)->set;
}

/* Is it being given leaves? One that takes them too slowly does not hold up the others. */
static bool is_served(const struct exchange_link *l, int64_t now_ms)
{
    return (l->reading > 0 || link_out_bytes(l->link) > EXCHANGE_OUT_LOW) &&
           now_ms - l->served_ms < EXCHANGE_STUCK_MS;
}

/* Few at a time: what a machine has whole it can pass on, two halves it cannot. */
static bool all_slots_taken(struct exchange *x)
{
    int64_t now_ms = loop_now_ms(x->o.loop);
    int served = 0;

    LIST_EACH (&x->serving, n) {
        if (is_served(CONTAINER_OF(n, struct exchange_link, serving), now_ms))
            served++;
        else
            list_remove(n);
    }
    return served >= EXCHANGE_UPLOADS;
}

static struct exchange_link *next_to_serve(struct exchange *x)
{
    struct exchange_link *best = NULL;
    size_t best_has = 0;

    if (all_slots_taken(x))
        return NULL;

    LIST_EACH (&x->wanting, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, wanting);
        size_t has;

        if (link_out_bytes(l->link) + l->reading * LEAF_BYTES > EXCHANGE_OUT_MAX)
            continue;
        has = completeness(l);
        if (best == NULL || has < best_has) {
            best = l;
            best_has = has;
        }
    }
    return best;
}

static void give_run(struct work *w)
{
    struct giving *g = CONTAINER_OF(w, struct giving, work);
    struct err err = ERR_INIT;
    struct hash h;

    g->status = fd_read_at(g->p->fd, g->bytes, g->len, (uint64_t)g->leaf * LEAF_BYTES, &err);
    h = sha256_of(g->bytes, g->len);
    if (g->status == 0 && !hash_equal(&h, &g->p->index->leaves[g->leaf]))
        g->status = err_set(&err, ERR_CORRUPT, "it has changed on this disk");
    if (g->status < 0)
        log_error("read leaf %u of pack %.12s: %s", g->leaf, g->p->hex, err.text);
}

static void given(struct giving *g)
{
    g->x->counts.sent_bytes += g->len;
    if (!g->p->forgotten)
        show_given(g->p, g->l, g->leaf);
}

static void give_send(struct giving *g)
{
    struct msg_leaf m = { g->p->hash, g->leaf, { g->bytes, g->len } };
    struct err err = ERR_INIT;

    if (g->status < 0) {
        refuse(g->l, &(struct msg_want){ g->p->hash, g->leaf, 1 }, ERR_CORRUPT);
        return;
    }
    if (link_send(g->l->link, MSG_LEAF, &m, &err) == 0)
        given(g);
    else
        refuse(g->l, &(struct msg_want){ g->p->hash, g->leaf, 1 }, ERR_AGAIN);
}

static void give_done(struct work *w)
{
    struct giving *g = CONTAINER_OF(w, struct giving, work);
    struct exchange *x = g->x;

    x->works--;
    x->reading--;
    g->l->reading--;
    g->p->pending--;
    if (!g->l->gone) {
        give_send(g);
    } else if (g->l->reading == 0) {
        exchange_link_free(g->l);
    }
    if (g->p->forgotten && g->p->pending == 0)
        pack_free(x, g->p);
    free(g->bytes);
    free(g);
    give_more(x);
}

static void start_one(struct exchange *x, struct exchange_link *l)
{
    struct want *w = &l->wants[0];
    struct exchange_pack *p = pack_find(x, &w->pack);
    uint32_t leaf = w->first;
    struct giving *g;

    if (p == NULL) /* forgotten since it was asked for */
        refuse(l, &(struct msg_want){ w->pack, w->first, 1 }, ERR_NOT_FOUND);
    w->first++;
    w->count--;
    l->wanted_leaves--;
    if (w->count == 0)
        memmove(l->wants, l->wants + 1, --l->nwants * sizeof(*l->wants));
    list_remove(&l->wanting);
    if (l->nwants > 0) /* to the end: those that have equally much take turns */
        list_push(&x->wanting, &l->wanting);
    if (p == NULL)
        return;
    g = mem_alloc(sizeof(*g));
    *g = (struct giving){ .work = { .run = give_run, .done = give_done }, .x = x, .l = l, .p = p };
    g->leaf = leaf;
    g->len = pack_leaf_bytes(p->index, leaf);
    g->bytes = mem_realloc(NULL, g->len);
    bucket_take(&x->up, g->len, loop_now_ms(x->o.loop));
    l->served_ms = loop_now_ms(x->o.loop);
    list_remove(&l->serving);
    list_push(&x->serving, &l->serving);
    x->reading++;
    l->reading++;
    p->pending++;
    x->works++;
    work_submit(x->o.pool, &g->work);
}

void give_again(struct timer *t)
{
    give_more(CONTAINER_OF(t, struct exchange, up_again));
}

/* May a leaf go up now? If not, a timer looks again. */
static bool may_send(struct exchange *x)
{
    int64_t wait_ms = bucket_wait_ms(&x->up, loop_now_ms(x->o.loop));

    if (wait_ms == 0)
        return true;
    if (!x->up_again.active)
        timer_start(x->o.loop, &x->up_again, wait_ms, 0, give_again);
    return false;
}

void give_more(struct exchange *x)
{
    while (x->reading < EXCHANGE_READS_MAX && may_send(x)) {
        struct exchange_link *l = next_to_serve(x);

        if (l == NULL)
            break;
        start_one(x, l);
    }
    if (list_empty(&x->wanting) && x->reading == 0 && !all_slots_taken(x) &&
        list_empty(&x->serving))
        show_idle(x);
}
