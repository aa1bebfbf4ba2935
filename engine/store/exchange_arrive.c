#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "store/exchange_internal.h"

/* ---- a leaf arrives: hashed and written in the pool ---- */

struct arrival {
    struct work work;
    struct exchange *x;
    struct exchange_pack *p;
    char *from; /* id of the sender */
    bool from_seed;
    uint32_t leaf;
    unsigned char *bytes;
    size_t len;
    int status;
    struct err err;
};

static void arrival_run(struct work *w)
{
    struct arrival *a = CONTAINER_OF(w, struct arrival, work);
    struct hash h = sha256_of(a->bytes, a->len);

    if (!hash_equal(&h, &a->p->index->leaves[a->leaf]))
        a->status = err_set(&a->err, ERR_CORRUPT, "leaf %u of pack %.12s does not match its digest",
                            a->leaf, a->p->hex);
    else
        a->status =
            fd_write_at(a->p->fd, a->bytes, a->len, (uint64_t)a->leaf * LEAF_BYTES, &a->err);
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

static void remember_leaf(struct exchange_pack *p, uint32_t leaf, bool from_seed)
{
    const struct bitmap *have = picker_have(p->picker);
    uint64_t at = leaf / 8;
    struct err err = ERR_INIT;

    bitmap_put(&p->seeded, leaf, from_seed);
    if (fd_write_at(p->bitmap_fd, p->seeded.bytes + at, 1, bitmap_size(have) + at, &err) < 0 ||
        fd_write_at(p->bitmap_fd, have->bytes + at, 1, at, &err) < 0)
        log_warn("bitmap of pack %.12s: %s", p->hex, err.text);
    buf_append(&p->fresh, &(struct msg_index){ leaf }, sizeof(struct msg_index));
}

static void leaf_kept(struct arrival *a)
{
    struct exchange_pack *p = a->p;
    struct exchange_link *l = link_by_id(a->x, a->from);
    struct link_pack *lp = l == NULL ? NULL : link_pack_find(l, &p->hash);
    int peer = lp == NULL ? -1 : lp->peer;

    if (!picker_got(p->picker, peer, a->leaf, loop_now_ms(a->x->o.loop)))
        return;
    remember_leaf(p, a->leaf, a->from_seed);
    if (p->fetch != NULL && picker_wants(p->picker, a->leaf)) {
        p->fetch->have_bytes += a->len;
        *(a->from_seed ? &p->fetch->seed_bytes : &p->fetch->peer_bytes) += a->len;
    }
    if (p->fresh.len / sizeof(struct msg_index) >= picker_piece_leaves(p->index->nleaves))
        pack_tell_haves(a->x, p);
}

static void leaf_bad(struct arrival *a)
{
    struct exchange_link *l = link_by_id(a->x, a->from);
    struct link_pack *lp = l == NULL ? NULL : link_pack_find(l, &a->p->hash);

    if (lp != NULL && lp->peer >= 0)
        picker_refused(a->p->picker, lp->peer, a->leaf, 1);
    if (a->status == -ERR_CORRUPT && l != NULL)
        link_was_bad(l, "a leaf that does not match its digest");
}

static void arrival_done(struct work *w)
{
    struct arrival *a = CONTAINER_OF(w, struct arrival, work);
    struct exchange_pack *p = a->p;

    a->x->works--;
    p->pending--;
    if (p->forgotten) {
        if (p->pending == 0)
            pack_free(a->x, p);
    } else {
        if (a->status == 0)
            leaf_kept(a);
        else
            leaf_bad(a);
        if (a->status < 0 && a->status != -ERR_CORRUPT && p->fetch != NULL) {
            p->fetch->err = a->err; /* the disk: no use in asking for more */
            pack_finish(p, a->status);
        } else {
            if (pack_can_ask(p))
                pack_ask_all(a->x, p);
            pack_maybe_done(a->x, p);
        }
    }
    free(a->bytes);
    free(a->from);
    free(a);
}

void pack_on_leaf(struct exchange_link *l, const struct msg_leaf *m)
{
    struct exchange_pack *p = pack_find(l->x, &m->pack);
    struct link_pack *lp = link_pack_find(l, &m->pack);
    struct arrival *a;

    if (p == NULL || p->fetch == NULL || p->pending >= PACK_PENDING_MAX || lp == NULL ||
        lp->peer < 0)
        return; /* late */
    if (m->index >= p->index->nleaves || m->bytes.len != pack_leaf_bytes(p->index, m->index)) {
        link_was_bad(l, "a leaf of the wrong size");
        return;
    }
    if (bitmap_get(picker_have(p->picker), m->index))
        return; /* somebody else was faster */
    a = mem_alloc(sizeof(*a));
    a->work = (struct work){ .run = arrival_run, .done = arrival_done };
    a->x = l->x;
    a->p = p;
    a->from = mem_strdup(link_peer_id(l->link));
    a->from_seed = l->is_seed;
    a->leaf = m->index;
    a->bytes = mem_dup(m->bytes.data, m->bytes.len);
    a->len = m->bytes.len;
    p->pending++;
    l->x->works++;
    work_submit(l->x->o.pool, &a->work);
}
