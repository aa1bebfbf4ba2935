#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link_block.h"
#include "store/exchange_internal.h"

/* ---- a leaf arrives: hashed and written in the pool ---- */

/* Leaves go together: a wake-up serves them all, and as a rule one thread at a time writes, as a file's
 * lock allows no more. What comes while a batch is in the pool is the next one. Where
 * leaves come fast, the first one waits a little for others; where they are rare, it is not kept waiting: the
 * neighbours want it. */
enum {
    BATCH = 16,
    BATCHES = 2, /* in the pool; the second one if it is full */
    GATHER_MS = 10,
    RARE_US = 3000, /* between leaves, on average; of which no gap counts more than */
    GAP_MAX_US = 100000,
};

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

static void arrival_keep(struct arrival *a)
{
    struct hash h = merkle_leaf(a->bytes, a->len);

    a->sum = checksum_of(a->bytes, a->len);
    if (!hash_equal(&h, &a->p->index->leaves[a->leaf]))
        a->status = err_set(&a->err, ERR_CORRUPT, "leaf %u of pack %.12s does not match its digest",
                            a->leaf, a->p->hex);
    else
        a->status = pack_write(a->p, a->bytes, a->len, (uint64_t)a->leaf * LEAF_BYTES, &a->err);
}

static void batch_run(struct work *w)
{
    struct batch *b = CONTAINER_OF(w, struct batch, work);

    for (size_t i = 0; i < b->count; i++)
        arrival_keep(b->of[i]);
}

static struct exchange_link *link_from(struct exchange *x, bool is_seed, const char *id)
{
    LIST_EACH (&x->links, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, node);

        if (l->is_seed == is_seed && strcmp(link_peer_id(l->link), id) == 0)
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
    struct exchange_link *l = link_from(a->x, a->from_seed, a->from);

    a->x->works--;
    p->pending--;
    if (a->status == 0 && !p->forgotten)
        recent_keep(p, a->leaf, a->block);
    else
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

static void batch_start(struct exchange *x);
static void on_gather(struct timer *t);

/* Those that wait go, unless others are about to come. */
static void batch_when_worth(struct exchange *x)
{
    bool rare = x->gap_us > RARE_US;

    if (x->narriving >= BATCH && x->batches < BATCHES) {
        timer_stop(&x->gather);
        batch_start(x);
    } else if (x->batches == 0 && x->narriving > 0 &&
               !x->gather.active) { /* others may be whole in this turn of the loop, at least */
        timer_start(x->o.loop, &x->gather, rare ? 0 : GATHER_MS, 0, on_gather);
    }
}

static void batch_done(struct work *w)
{
    struct batch *b = CONTAINER_OF(w, struct batch, work);
    struct exchange *x = b->x;

    x->batches--;
    batch_when_worth(x); /* first: what is called back may free x when nothing is in the pool */
    for (size_t i = 0; i < b->count; i++)
        arrival_done(b->of[i]);
    free(b);
}

static void batch_start(struct exchange *x)
{
    struct batch *b = mem_alloc(sizeof(*b));

    b->work = (struct work){ .run = batch_run, .done = batch_done };
    b->x = x;
    while (b->count < BATCH && x->narriving > 0) {
        struct arrival *a = CONTAINER_OF(x->arriving.next, struct arrival, node);

        list_remove(&a->node);
        x->narriving--;
        b->of[b->count++] = a;
    }
    x->batches++;
    work_submit(x->o.pool, &b->work);
}

static void on_gather(struct timer *t)
{
    batch_start(CONTAINER_OF(t, struct exchange, gather));
}

/* How fast do they come? */
static void note_arrival(struct exchange *x)
{
    int64_t now_ms = exchange_now(x), gap_us = (now_ms - x->arrived_ms) * 1000;

    x->arrived_ms = now_ms;
    gap_us = gap_us < GAP_MAX_US ? gap_us : GAP_MAX_US;
    x->gap_us += (gap_us - x->gap_us) / 8;
}

static void take_bytes(struct arrival *a, struct exchange_link *l, const struct bytes *bytes)
{
    a->len = bytes->len;
    a->bytes = bytes->data;
    a->block = link_take_block(l->link, bytes->data);
    if (a->block != NULL)
        return;
    a->block = link_block_new(l->link, a->len); /* a small one: the pack's last */
    a->bytes = memcpy(link_block_bytes(a->block), bytes->data, a->len);
}

void pack_on_leaf(struct exchange_link *l, const struct msg_leaf *m)
{
    struct exchange_pack *p = pack_find(l->x, &m->pack);
    struct arrival *a;

    if (p == NULL || p->number < 0) { /* late, or nobody asked for it */
        (void)peer_takes(l->x->peer, l->number, -1, m->index, exchange_now(l->x));
        exchange_act(l->x);
        return;
    }
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
    l->x->narriving++;
    note_arrival(l->x);
    batch_when_worth(l->x);
    exchange_act(l->x);
}
