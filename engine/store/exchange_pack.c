#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "store/exchange_internal.h"

struct exchange_pack *pack_find(const struct exchange *x, const struct hash *hash)
{
    char hex[HASH_HEX];

    return map_get(&x->packs, hash_hex(hash, hex));
}

struct exchange_pack *pack_new(struct exchange *x, const struct hash *hash,
                               struct pack_index *index)
{
    struct exchange_pack *p = mem_alloc(sizeof(*p));

    p->hash = *hash;
    hash_hex(hash, p->hex);
    p->index = index;
    p->loop = x->o.loop;
    p->fd = p->bitmap_fd = -1;
    bitmap_init(&p->seeded, index->nleaves);
    p->picker = picker_new(index->nleaves, x->o.seed ^ hash->b[0]);
    map_put(&x->packs, p->hex, p);
    return p;
}

void pack_free(struct exchange *x, struct exchange_pack *p)
{
    (void)x;
    if (p->fd >= 0)
        close(p->fd);
    if (p->bitmap_fd >= 0)
        close(p->bitmap_fd);
    picker_free(p->picker);
    pack_index_free(p->index);
    buf_release(&p->fresh);
    buf_release(&p->fresh_far);
    seeding_free(p->seeding);
    bitmap_release(&p->seeded);
    free(p->path);
    free(p);
}

static void tell_bitmap(struct exchange_pack *p, struct exchange_link *l)
{
    const struct bitmap *have = picker_have(p->picker);
    struct msg_bitmap m = { p->hash, { have->bytes, bitmap_size(have) } };
    struct link_pack *lp = link_pack_get(l, &p->hash);
    AUTO_FREE unsigned char *none = NULL;
    struct err err = ERR_INIT;

    if (lp == NULL)
        return;
    if (lp->shown >= 0) /* the rest by HAVE, piece by piece */
        m.bitmap.data = none = mem_alloc(m.bitmap.len + 1);
    lp->told = link_send(l->link, MSG_BITMAP, &m, &err) == 0;
    if (lp->told)
        lp->leaving = false;
    else
        p->untold = true;
}

static void tell_tracker(struct exchange *x, struct exchange_pack *p)
{
    const struct bitmap *have = picker_have(p->picker);

    if (x->o.join != NULL)
        x->o.join(x->o.ctx, &p->hash, &(struct bytes){ have->bytes, bitmap_size(have) });
}

/* Takes what we know of the link's other side into the pack's picker. */
static void know_peer(struct exchange_pack *p, struct exchange_link *l, struct link_pack *lp,
                      const void *bytes, size_t len)
{
    if (lp->peer < 0)
        lp->peer = picker_peer_add(p->picker);
    if (lp->peer >= 0 && !picker_peer_bitmap(p->picker, lp->peer, bytes, len)) {
        picker_peer_remove(p->picker, lp->peer);
        lp->peer = -1;
        link_was_bad(l, "a malformed bitmap");
    }
}

bool pack_can_ask(const struct exchange_pack *p)
{
    return p->fetch != NULL && !p->checking && p->pending < PACK_PENDING_MAX &&
           !picker_done(p->picker);
}

/* May leaves be asked for now? If not, a timer looks again. */
static bool may_ask(struct exchange *x, int64_t now_ms)
{
    int64_t wait_ms = bucket_wait_ms(&x->down, now_ms);

    if (wait_ms == 0)
        return true;
    if (!x->down_again.active)
        timer_start(x->o.loop, &x->down_again, wait_ms, 0, pack_ask_again);
    return false;
}

static void ask_link(struct exchange_pack *p, struct exchange_link *l, int64_t now_ms)
{
    struct link_pack *lp = link_pack_find(l, &p->hash);
    size_t first, count;

    if (lp == NULL || lp->peer < 0)
        return;
    while (pack_can_ask(p) && may_ask(l->x, now_ms) &&
           picker_asked(p->picker, lp->peer) < EXCHANGE_LINK_PIECES &&
           picker_choose(p->picker, lp->peer, now_ms, &first, &count)) {
        struct msg_want m = { p->hash, (uint32_t)first, (uint32_t)count };
        struct err err = ERR_INIT;

        if (link_send(l->link, MSG_WANT, &m, &err) == 0) {
            bucket_take(&l->x->down, count * LEAF_BYTES, now_ms);
            continue;
        }
        picker_refused(p->picker, lp->peer, first, count);
        return;
    }
}

void pack_ask_all(struct exchange *x, struct exchange_pack *p)
{
    int64_t now_ms = loop_now_ms(x->o.loop);

    LIST_EACH (&x->links, n)
        ask_link(p, CONTAINER_OF(n, struct exchange_link, node), now_ms);
}

void pack_ask_again(struct timer *t)
{
    struct exchange *x = CONTAINER_OF(t, struct exchange, down_again);
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&x->packs, &i)) != NULL;) {
        if (pack_can_ask(e->value))
            pack_ask_all(x, e->value);
    }
}

/* It has and wants nothing of the pack any more. */
static void pack_on_leave(struct exchange_link *l, struct exchange_pack *p, const struct hash *hash)
{
    struct link_pack *lp = link_pack_find(l, hash);

    if (lp == NULL)
        return;
    if (p != NULL && lp->peer >= 0)
        picker_peer_remove(p->picker, lp->peer);
    if (p != NULL)
        show_peer_end(p, lp);
    link_pack_drop(l, lp);
    if (p != NULL && pack_can_ask(p))
        pack_ask_all(l->x, p);
}

/* Until we take the pack up. */
static void keep_remote(struct exchange_link *l, struct link_pack *lp, const void *bytes,
                        size_t len)
{
    l->remote_bytes -= lp->remote.len;
    buf_reset(&lp->remote);
    if (l->remote_bytes + len > EXCHANGE_LINK_REMOTE_MAX)
        lp->heard = false;
    else
        buf_append(&lp->remote, bytes, len);
    l->remote_bytes += lp->remote.len;
}

void pack_on_bitmap(struct exchange_link *l, const struct msg_bitmap *m)
{
    struct exchange_pack *p = pack_find(l->x, &m->pack);
    struct link_pack *lp;
    bool first;

    if (m->bitmap.len == 0) {
        pack_on_leave(l, p, &m->pack);
        return;
    }
    lp = link_pack_get(l, &m->pack);
    if (lp == NULL)
        return;
    first = !lp->heard;
    lp->heard = true;
    if (p == NULL || p->checking) {
        keep_remote(l, lp, m->bitmap.data, m->bitmap.len);
        return;
    }
    know_peer(p, l, lp, m->bitmap.data, m->bitmap.len);
    if (p->seeding != NULL)
        show_peer_begin(p, l, lp, m);
    if (first || !lp->told)
        tell_bitmap(p, l);
    show_more(p);
    ask_link(p, l, loop_now_ms(l->x->o.loop));
}

void pack_on_have(struct exchange_link *l, const struct msg_have *m)
{
    struct exchange_pack *p = pack_find(l->x, &m->pack);
    struct link_pack *lp = link_pack_find(l, &m->pack);
    const struct msg_index *leaves = m->leaves.items;

    if (p == NULL || lp == NULL || lp->peer < 0)
        return;
    for (size_t i = 0; i < m->leaves.count; i++) {
        if (lp->shown >= 0)
            seeding_has(p->seeding, lp->shown, leaves[i].index);
        if (picker_peer_have(p->picker, lp->peer, leaves[i].index))
            continue;
        link_was_bad(l, "a leaf number that its pack does not have");
        return;
    }
    show_more(p);
    ask_link(p, l, loop_now_ms(l->x->o.loop));
}

void pack_on_refuse(struct exchange_link *l, const struct msg_refuse *m)
{
    struct exchange_pack *p = pack_find(l->x, &m->pack);
    struct link_pack *lp = link_pack_find(l, &m->pack);

    if (p == NULL || lp == NULL || lp->peer < 0)
        return;
    picker_refused(p->picker, lp->peer, m->first, m->count);
    if (m->code == ERR_CORRUPT) /* of what it has, only this cannot be read */
        for (uint32_t i = 0; i < m->count && i < PIECE_LEAVES_MAX; i++)
            picker_peer_lacks(p->picker, lp->peer, (size_t)m->first + i);
    if (m->code != ERR_NOT_FOUND)
        return; /* busy: the tick asks again */
    picker_peer_remove(p->picker, lp->peer);
    lp->peer = -1; /* until it says what it really has */
}

void pack_tell_haves(struct exchange *x, struct exchange_pack *p)
{
    struct msg_have m = { p->hash, { p->fresh.data, p->fresh.len / sizeof(struct msg_index) } };
    struct err err = ERR_INIT;

    if (m.leaves.count == 0)
        return;
    LIST_EACH (&x->links, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, node);
        struct link_pack *lp = link_pack_find(l, &p->hash);

        if (lp == NULL || !lp->heard || l->is_seed)
            continue;
        if (link_send(l->link, MSG_HAVE, &m, &err) < 0) {
            lp->told = false; /* its buffer is full: the tick sends the whole bitmap */
            p->untold = true;
        }
    }
    if (p->fresh_far.len + p->fresh.len <= HAVES_MAX * sizeof(struct msg_index))
        buf_append(&p->fresh_far, p->fresh.data, p->fresh.len);
    buf_reset(&p->fresh);
}

/* Seeds hear of it, too, to know what is rare. What does not fit they do not miss: it may only cost a
 * piece that is shown in vain. */
static void tell_far(struct exchange *x, struct exchange_pack *p)
{
    struct msg_have m = { p->hash,
                          { p->fresh_far.data, p->fresh_far.len / sizeof(struct msg_index) } };
    struct err err = ERR_INIT;

    if (m.leaves.count == 0)
        return;
    LIST_EACH (&x->links, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, node);

        if (l->is_seed && link_pack_find(l, &p->hash) != NULL &&
            link_send(l->link, MSG_HAVE, &m, &err) < 0)
            log_debug("what is here, to %s: %s", link_peer_id(l->link), err.text);
    }
    buf_reset(&p->fresh_far);
}

void pack_finish(struct exchange_pack *p, int status)
{
    struct exchange_fetch *f = p->fetch;

    p->fetch = NULL;
    f->p = NULL;
    f->active = false;
    f->done(f, status);
}

void pack_maybe_done(struct exchange *x, struct exchange_pack *p)
{
    if (p->fetch == NULL || p->checking || !picker_done(p->picker))
        return;
    pack_tell_haves(x, p);
    tell_tracker(x, p);
    pack_finish(p, 0);
}

/* A machine tells everybody, a region node who has told it. */
static void tell_untold(struct exchange_pack *p, struct exchange *x)
{
    p->untold = false;
    LIST_EACH (&x->links, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, node);
        struct link_pack *lp = link_pack_find(l, &p->hash);

        if (lp != NULL && !lp->told && (lp->heard || x->o.join != NULL))
            tell_bitmap(p, l);
    }
}

void pack_tick(struct exchange_pack *p, struct exchange *x)
{
    if (p->checking || p->forgotten)
        return;
    pack_tell_haves(x, p);
    if (p->untold)
        tell_untold(p, x);
    tell_far(x, p);
    show_more(p);
    picker_expire(p->picker, loop_now_ms(x->o.loop));
    if (pack_can_ask(p))
        pack_ask_all(x, p);
    pack_maybe_done(x, p);
}

/* ---- links come and go ---- */

void pack_link_opened(struct exchange_link *l)
{
    struct map_entry *e;

    if (l->x->o.join == NULL)
        return; /* a region node answers who asks */
    for (size_t i = 0; (e = map_next(&l->x->packs, &i)) != NULL;) {
        struct exchange_pack *p = e->value;

        if (!p->checking)
            tell_bitmap(p, l);
    }
}

void pack_link_closed(struct exchange_link *l)
{
    for (size_t i = 0; i < l->npacks; i++) {
        struct exchange_pack *p = pack_find(l->x, &l->packs[i].hash);

        if (p != NULL && l->packs[i].peer >= 0)
            picker_peer_remove(p->picker, l->packs[i].peer);
        l->packs[i].peer = -1;
        if (p != NULL)
            show_peer_end(p, &l->packs[i]);
        if (p != NULL && pack_can_ask(p))
            pack_ask_all(l->x, p);
    }
}

/* The pack is ready to be given and asked for: everybody who may care is told. */
void pack_take_up(struct exchange *x, struct exchange_pack *p)
{
    LIST_EACH (&x->links, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, node);
        struct link_pack *lp = link_pack_find(l, &p->hash);

        if (lp != NULL && lp->heard)
            know_peer(p, l, lp, buf_str(&lp->remote), lp->remote.len);
        if (lp != NULL) {
            l->remote_bytes -= lp->remote.len;
            buf_release(&lp->remote);
        }
        if (x->o.join != NULL || (lp != NULL && lp->heard))
            tell_bitmap(p, l);
    }
    tell_tracker(x, p);
    if (pack_can_ask(p))
        pack_ask_all(x, p);
}

int exchange_seed(struct exchange *x, const void *index, size_t len, const char *path,
                  struct err *err)
{
    struct hash hash = sha256_of(index, len);
    struct exchange_pack *p = pack_find(x, &hash);
    struct pack_index *parsed;
    int fd, rv;

    if (p != NULL)
        return 0;
    rv = pack_index_parse(&parsed, index, len, err);
    if (rv < 0)
        return rv;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        pack_index_free(parsed);
        return err_sys(err, errno, "open %s", path);
    }
    exchange_offer(x, index, len);
    p = pack_new(x, &hash, parsed);
    p->fd = fd;
    p->path = mem_strdup(path);
    p->seeded_only = true;
    if (x->o.join == NULL)
        p->seeding = seeding_new(parsed->nleaves, picker_piece_leaves(parsed->nleaves), x->o.seed);
    for (size_t i = 0; i < parsed->nleaves; i++)
        (void)picker_got(p->picker, -1, i, 0);
    pack_take_up(x, p);
    return 0;
}

static bool say_leaving(struct exchange_link *l, const struct hash *pack)
{
    struct msg_bitmap m = { *pack, { NULL, 0 } };
    struct err err = ERR_INIT;

    return link_send(l->link, MSG_BITMAP, &m, &err) == 0;
}

/* We know of it what a new link would know; what it told before we told anything is kept. */
static void leave_link(struct exchange_pack *p, struct exchange_link *l, struct link_pack *lp)
{
    if (lp->told && say_leaving(l, &p->hash)) {
        link_pack_drop(l, lp);
        return;
    }
    if (lp->peer >= 0) {
        const struct bitmap *has = picker_peer_has(p->picker, lp->peer);

        keep_remote(l, lp, has->bytes, bitmap_size(has));
    }
    lp->peer = -1;
    lp->leaving = lp->told;
}

void pack_leave_rest(struct exchange_link *l)
{
    for (size_t i = l->npacks; i-- > 0;)
        if (l->packs[i].leaving && say_leaving(l, &l->packs[i].hash))
            link_pack_drop(l, &l->packs[i]);
}

void pack_drop(struct exchange *x, struct exchange_pack *p)
{
    LIST_EACH (&x->links, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, node);
        struct link_pack *lp = link_pack_find(l, &p->hash);

        if (lp != NULL)
            leave_link(p, l, lp);
    }
    map_remove(&x->packs, p->hex);
    p->forgotten = true;
    if (p->pending == 0)
        pack_free(x, p);
}

bool exchange_has(const struct exchange *x, const struct hash *pack, size_t first, size_t count)
{
    const struct exchange_pack *p = pack_find(x, pack);

    if (p == NULL || p->checking || first + count > p->index->nleaves)
        return false;
    for (size_t i = first; i < first + count; i++)
        if (!bitmap_get(picker_have(p->picker), i))
            return false;
    return true;
}

const char *exchange_path(const struct exchange *x, const struct hash *pack)
{
    const struct exchange_pack *p = pack_find(x, pack);

    return p != NULL && !p->checking && picker_done(p->picker) ? p->path : NULL;
}

void exchange_forget(struct exchange *x, const struct hash *pack)
{
    struct exchange_pack *p = pack_find(x, pack);

    if (p == NULL)
        return;
    if (p->fetch != NULL)
        exchange_fetch_cancel(p->fetch);
    if (!p->seeded_only) {
        AUTO_FREE char *bitmap_path = mem_printf("%s/%s.bitmap", x->dir, p->hex);

        unlink(p->path);
        unlink(bitmap_path);
    }
    if (x->o.leave != NULL)
        x->o.leave(x->o.ctx, pack);
    pack_drop(x, p);
}

void exchange_rejoin(struct exchange *x)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&x->packs, &i)) != NULL;) {
        struct exchange_pack *p = e->value;

        if (!p->checking)
            tell_tracker(x, p);
    }
}
