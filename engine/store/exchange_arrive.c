#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link_block.h"
#include "store/exchange_internal.h"

/* ---- a leaf arrives: hashed and written in the pool ---- */

/* Leaves that came meanwhile go together: two are hashed in little more time than one, and a wake-up serves
 * them all. */
enum { BATCH = 8, BATCHES = 2 /* in the pool at a time */ };

struct arrival {
    struct list node; /* in x->arriving */
    struct exchange *x;
    struct exchange_pack *p;
    char *from; /* id of the sender */
    bool from_seed;
    enum peer_rack rack;
    uint32_t leaf;
    struct link_block *block;
    const unsigned char *bytes; /* in it */
    size_t len;
    uint64_t sum;
    int status;
    struct err err;
};

struct batch {
    struct work work;
    struct exchange *x;
    struct arrival *of[BATCH];
    size_t count;
};

static void arrival_keep(struct arrival *a, const struct hash *h)
{
    a->sum = checksum_of(a->bytes, a->len);
    if (!hash_equal(h, &a->p->index->leaves[a->leaf]))
        a->status = err_set(&a->err, ERR_CORRUPT, "leaf %u of pack %.12s does not match its digest",
                            a->leaf, a->p->hex);
    else
        a->status = pack_write(a->p, a->bytes, a->len, (uint64_t)a->leaf * LEAF_BYTES, &a->err);
}

static void batch_run(struct work *w)
{
    struct batch *b = CONTAINER_OF(w, struct batch, work);
    struct hash h[2];

    for (size_t i = 0; i + 1 < b->count; i += 2) {
        sha256_of_two(b->of[i]->bytes, b->of[i]->len, b->of[i + 1]->bytes, b->of[i + 1]->len, h);
        arrival_keep(b->of[i], &h[0]);
        arrival_keep(b->of[i + 1], &h[1]);
    }
    if (b->count % 2 != 0) {
        struct arrival *last = b->of[b->count - 1];

        h[0] = sha256_of(last->bytes, last->len);
        arrival_keep(last, &h[0]);
    }
}

static struct exchange_link *link_by_id(struct exchange *x, const char *id)
{
    LIST_EACH (&x->links, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, node);

        if (strcmp(link_peer_id(l->link), id) == 0)
            return l;
    }
    return NULL;
}

static void leaf_kept(struct arrival *a, struct exchange_link *l)
{
    struct exchange_pack *p = a->p;

    bitmap_put(&p->seeded, a->leaf, a->from_seed);
    bitmap_put(&p->verified, a->leaf, true);
    p->sums[a->leaf] = a->sum;
    p->unsaved = true;
    tally_arrived(a->x, a->len);
    tally_kept(p, a->rack, a->len);
    if (p->fetch != NULL && peer_pack_wants(a->x->peer, p->number, a->leaf)) {
        p->fetch->have_bytes += a->len;
        *(a->from_seed ? &p->fetch->seed_bytes : &p->fetch->peer_bytes) += a->len;
    }
    exchange_step(a->x, &(struct peer_event){ .kind = PEER_VERIFIED,
                                              .link = l == NULL ? -1 : l->number,
                                              .pack = p->number,
                                              .first = a->leaf });
}

static void leaf_bad(struct arrival *a, struct exchange_link *l)
{
    struct exchange_pack *p = a->p;

    if (a->status != -ERR_CORRUPT && p->fetch != NULL) {
        p->fetch->err = a->err; /* the disk: no use in asking for more */
        peer_pack_rest(a->x->peer, p->number);
    }
    peer_step(a->x->peer,
              &(struct peer_event){ .kind = PEER_BAD,
                                    .link = l == NULL ? -1 : l->number,
                                    .pack = p->number,
                                    .first = a->leaf },
              exchange_now(a->x));
    if (a->status == -ERR_CORRUPT && l != NULL)
        tally_was_bad(p, l, "a leaf that does not match its digest");
    if (a->status != -ERR_CORRUPT && p->fetch != NULL)
        pack_finish(p, a->status);
    exchange_act(a->x);
}

static void arrival_done(struct arrival *a)
{
    struct exchange_pack *p = a->p;
    struct exchange_link *l = link_by_id(a->x, a->from);

    a->x->works--;
    p->pending--;
    link_block_free(a->block);
    if (p->forgotten) {
        if (p->pending == 0)
            pack_free(a->x, p);
    } else if (a->status == 0) {
        leaf_kept(a, l);
    } else {
        leaf_bad(a, l);
    }
    free(a->from);
    free(a);
}

static void batches_start(struct exchange *x);

static void batch_done(struct work *w)
{
    struct batch *b = CONTAINER_OF(w, struct batch, work);
    struct exchange *x = b->x;

    x->batches--;
    batches_start(x); /* first: what is called back may free x when nothing is in the pool */
    for (size_t i = 0; i < b->count; i++)
        arrival_done(b->of[i]);
    free(b);
}

static void batch_start(struct exchange *x)
{
    struct batch *b = mem_alloc(sizeof(*b));

    b->work = (struct work){ .run = batch_run, .done = batch_done };
    b->x = x;
    while (b->count < BATCH && !list_empty(&x->arriving)) {
        struct arrival *a = CONTAINER_OF(x->arriving.next, struct arrival, node);

        list_remove(&a->node);
        b->of[b->count++] = a;
    }
    if (b->count > 1 &&
        b->count % 2 != 0) /* the odd one finds company, or goes when these are done */
        list_push(&x->arriving, &b->of[--b->count]->node);
    x->batches++;
    work_submit(x->o.pool, &b->work);
}

/* One leaf alone is not kept waiting while nothing is under way, but waits for company otherwise. */
static void batches_start(struct exchange *x)
{
    while (!list_empty(&x->arriving) &&
           (x->batches == 0 || (x->batches < BATCHES && x->arriving.next != x->arriving.prev)))
        batch_start(x);
}

static void on_gather(struct timer *t)
{
    batches_start(CONTAINER_OF(t, struct exchange, gather));
}

static void take_bytes(struct arrival *a, struct exchange_link *l, const struct bytes *bytes)
{
    a->len = bytes->len;
    a->bytes = bytes->data;
    a->block = link_take_block(l->link);
    if (a->block != NULL)
        return;
    a->block = link_block_new(l->link, a->len); /* a small one: the pack's last */
    a->bytes = memcpy(link_block_bytes(a->block), bytes->data, a->len);
}

void pack_on_leaf(struct exchange_link *l, const struct msg_leaf *m)
{
    struct exchange_pack *p = pack_find(l->x, &m->pack);
    struct arrival *a;

    if (p == NULL || p->number < 0)
        return; /* late */
    if (m->index < p->index->nleaves && m->bytes.len != pack_leaf_bytes(p->index, m->index)) {
        tally_was_bad(p, l, "a leaf of the wrong size");
        return;
    }
    if (!peer_takes(l->x->peer, l->number, p->number, m->index, exchange_now(l->x))) {
        exchange_act(l->x);
        return;
    }
    a = mem_alloc(sizeof(*a));
    a->x = l->x;
    a->p = p;
    a->from = mem_strdup(link_peer_id(l->link));
    a->from_seed = l->is_seed;
    a->rack = l->rack;
    a->leaf = m->index;
    take_bytes(a, l, &m->bytes);
    p->pending++;
    l->x->works++;
    list_push(&l->x->arriving, &a->node);
    if (l->x->batches > 0)
        batches_start(l->x);
    else if (!l->x->gather.active) /* others may be whole in this turn of the loop */
        timer_start(l->x->o.loop, &l->x->gather, 0, 0, on_gather);
    exchange_act(l->x);
}
