#include <stdlib.h>

#include "base/checksum.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link_block.h"
#include "store/exchange_internal.h"

/* One leaf on its way from disk to a link. */
struct giving {
    struct work work;
    struct exchange *x;
    struct exchange_link *l;
    struct exchange_pack *p;
    uint32_t leaf;
    size_t len;
    struct link_block *block;
    uint64_t sum; /* of the bytes when they were verified; 0: not in this run */
    int status;
};

static int check_read(struct giving *g, struct err *err)
{
    const unsigned char *bytes = link_block_bytes(g->block);
    uint64_t sum = checksum_of(bytes, g->len);
    bool good = sum == g->sum;

    if (g->sum == 0) {
        struct hash h = merkle_leaf(bytes, g->len);

        good = hash_equal(&h, &g->p->index->leaves[g->leaf]);
        g->sum = sum;
    }
    return good ? 0 : err_set(err, ERR_CORRUPT, "it has changed on this disk");
}

static void give_run(struct work *w)
{
    struct giving *g = CONTAINER_OF(w, struct giving, work);
    struct err err = ERR_INIT;

    g->status =
        pack_read(g->p, link_block_bytes(g->block), g->len, (uint64_t)g->leaf * LEAF_BYTES, &err);
    if (g->status == 0)
        g->status = check_read(g, &err);
    if (g->status < 0)
        log_error("read leaf %u of pack %.12s: %s", g->leaf, g->p->hex, err.text);
}

/* It is not on this disk any more as it was. */
static void leaf_lost(struct giving *g)
{
    struct exchange_pack *p = g->p;
    struct exchange_fetch *f = p->fetch;
    struct peer *peer = g->x->peer;

    bitmap_put(&p->verified, g->leaf, false);
    p->unsaved = true;
    p->sums[g->leaf] = 0;
    if (f == NULL || !bitmap_get(peer_pack_has(peer, p->number), g->leaf) ||
        !peer_pack_wants(peer, p->number, g->leaf))
        return;
    f->have_bytes -= g->len;
    *(bitmap_get(&p->seeded, g->leaf) ? &f->seed_bytes : &f->peer_bytes) -= g->len;
}

static void tell_peer(struct giving *g, enum peer_event_kind kind)
{
    peer_step(g->x->peer,
              &(struct peer_event){
                  .kind = kind, .link = g->l->number, .pack = g->p->number, .first = g->leaf },
              exchange_now(g->x));
}

static void sent(struct giving *g)
{
    g->x->counts.sent_bytes += g->len;
    g->p->given_bytes += g->len;
    g->p->given_ms = loop_now_ms(g->x->o.loop);
    if (link_out_bytes(g->l->link) > EXCHANGE_OUT_LOW)
        g->l->full = true; /* give_room() says that it has been sent */
    else
        tell_peer(g, PEER_SENT);
}

static void give_send(struct giving *g)
{
    struct msg_leaf m = { g->p->hash, g->leaf, { link_block_bytes(g->block), g->len } };
    struct msg_refuse refuse = { g->p->hash, g->leaf, 1, ERR_AGAIN };
    struct err err = ERR_INIT;

    if (g->p->forgotten) {
        tell_peer(g, PEER_SENT);
    } else if (g->status < 0) {
        leaf_lost(g);
        tell_peer(g, PEER_UNREAD);
    } else if (link_send_block(g->l->link, MSG_LEAF, &m, g->block, &err) == 0) {
        g->block = NULL;
        g->p->sums[g->leaf] = g->sum;
        bitmap_put(&g->p->verified, g->leaf, true);
        sent(g);
    } else {
        if (link_send(g->l->link, MSG_REFUSE, &refuse, &err) < 0)
            log_debug("leaf %u to %s: %s", g->leaf, link_peer_id(g->l->link), err.text);
        g->x->counts.refused++;
        tell_peer(g, PEER_SENT);
    }
}

static void give_done(struct work *w)
{
    struct giving *g = CONTAINER_OF(w, struct giving, work);
    struct exchange *x = g->x;

    x->works--;
    g->l->reading--;
    g->p->pending--;
    if (!g->l->gone)
        give_send(g);
    else if (g->l->reading == 0)
        exchange_link_free(g->l);
    if (g->p->forgotten && g->p->pending == 0)
        pack_free(x, g->p);
    link_block_free(g->block);
    free(g);
    exchange_act(x);
}

void give_room(struct exchange_link *l)
{
    if (!l->full || link_out_bytes(l->link) > EXCHANGE_OUT_LOW)
        return;
    l->full = false;
    exchange_step(l->x, &(struct peer_event){ .kind = PEER_SENT, .link = l->number });
}

static void give_from_memory(struct giving *g, struct link_block *b)
{
    g->block = link_block_share(b);
    give_send(g);
    link_block_free(g->block);
}

void give_start(struct exchange *x, const struct peer_action *a)
{
    struct exchange_link *l = x->numbers[a->link];
    struct exchange_pack *p = x->slots[a->pack];
    struct link_block *recent = recent_find(p, a->first);
    struct giving start = { .work = { .run = give_run, .done = give_done },
                            .x = x,
                            .l = l,
                            .p = p,
                            .leaf = a->first,
                            .len = pack_leaf_bytes(p->index, a->first),
                            .sum = p->sums[a->first] };
    struct giving *g;

    if (recent != NULL) {
        give_from_memory(&start, recent);
        return;
    }
    g = mem_alloc(sizeof(*g));
    *g = start;
    g->block = link_block_new(l->link, g->len);
    l->reading++;
    p->pending++;
    x->works++;
    work_submit(x->o.pool, &g->work);
}
