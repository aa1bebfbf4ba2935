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

    p->x = x;
    p->hash = *hash;
    hash_hex(hash, p->hex);
    p->number = -1;
    p->index = index;
    p->fd = p->bitmap_fd = -1;
    bitmap_init(&p->seeded, index->nleaves);
    bitmap_init(&p->verified, index->nleaves);
    p->sums = mem_calloc(index->nleaves, sizeof(*p->sums));
    map_put(&x->packs, p->hex, p);
    return p;
}

/* Of len bytes from offset on, how many lie in the pack's own file. */
static size_t in_file(const struct exchange_pack *p, size_t len, uint64_t offset)
{
    uint64_t from = p->placed == NULL ? UINT64_MAX : placed_from(p->placed);

    if (offset >= from)
        return 0;
    return from - offset < len ? (size_t)(from - offset) : len;
}

int pack_read(const struct exchange_pack *p, void *data, size_t len, uint64_t offset,
              struct err *err)
{
    size_t n = in_file(p, len, offset);
    int r = n == 0 ? 0 : fd_read_at(p->fd, data, n, offset, err);

    return r < 0 || n == len
               ? r
               : placed_read(p->placed, (unsigned char *)data + n, len - n, offset + n, err);
}

int pack_write(const struct exchange_pack *p, const void *data, size_t len, uint64_t offset,
               struct err *err)
{
    size_t n = in_file(p, len, offset);
    int r = n == 0 ? 0 : fd_write_at(p->fd, data, n, offset, err);

    return r < 0 || n == len
               ? r
               : placed_write(p->placed, (const unsigned char *)data + n, len - n, offset + n, err);
}

/* From here on a leaf is not fetched again after kill -9. */
void pack_save(struct exchange_pack *p)
{
    struct err err = ERR_INIT;
    size_t size = bitmap_size(&p->verified);

    if (!p->unsaved || p->bitmap_fd < 0)
        return;
    p->unsaved = false;
    if (fd_write_at(p->bitmap_fd, p->seeded.bytes, size, size, &err) < 0 ||
        fd_write_at(p->bitmap_fd, p->verified.bytes, size, 0, &err) < 0)
        log_warn("bitmap of pack %.12s: %s", p->hex, err.text);
}

void pack_free(struct exchange *x, struct exchange_pack *p)
{
    pack_save(p);
    recent_drop(x, p, INT64_MAX);
    if (p->fd >= 0)
        close(p->fd);
    if (p->bitmap_fd >= 0)
        close(p->bitmap_fd);
    pack_index_free(p->index);
    bitmap_release(&p->seeded);
    bitmap_release(&p->verified);
    free(p->sums);
    free(p->path);
    free(p);
}

static void tell_tracker(struct exchange *x, struct exchange_pack *p)
{
    const struct bitmap *have = peer_pack_has(x->peer, p->number);

    if (x->o.join != NULL)
        x->o.join(x->o.ctx, &p->hash, &(struct bytes){ have->bytes, bitmap_size(have) });
}

/* ---- what links say of packs that we do not have ---- */

static struct remote *remote_find(struct exchange_link *l, const struct hash *hash)
{
    for (size_t i = 0; i < l->nremotes; i++)
        if (hash_equal(&l->remotes[i].hash, hash))
            return &l->remotes[i];
    return NULL;
}

static void remote_drop(struct exchange_link *l, struct remote *r)
{
    l->remote_bytes -= r->bitmap.len;
    buf_release(&r->bitmap);
    *r = l->remotes[--l->nremotes];
}

/* Until we take the pack up. What is over the limits is not kept: that link is no source of it. */
static struct remote *remote_keep(struct exchange_link *l, const struct hash *hash,
                                  const void *bytes, size_t len)
{
    struct remote *r = remote_find(l, hash);

    if (r == NULL && l->nremotes == EXCHANGE_LINK_PACKS_MAX)
        return NULL;
    if (r == NULL) {
        VEC_GROW(l->remotes, l->nremotes, l->remotes_cap);
        r = &l->remotes[l->nremotes++];
        *r = (struct remote){ .hash = *hash };
    }
    l->remote_bytes -= r->bitmap.len;
    buf_reset(&r->bitmap);
    if (l->remote_bytes + len <= EXCHANGE_LINK_REMOTE_MAX)
        buf_append(&r->bitmap, bytes, len);
    l->remote_bytes += r->bitmap.len;
    return r;
}

static void step_bitmap(struct exchange_link *l, const struct exchange_pack *p, struct bytes bitmap)
{
    peer_step(l->x->peer,
              &(struct peer_event){
                  .kind = PEER_ON_BITMAP, .link = l->number, .pack = p->number, .bitmap = bitmap },
              exchange_now(l->x));
}

void pack_on_bitmap(struct exchange_link *l, const struct msg_bitmap *m)
{
    const struct exchange_pack *p = pack_find(l->x, &m->pack);
    struct remote *r = remote_find(l, &m->pack);

    if (p != NULL && p->number >= 0) {
        step_bitmap(l, p, m->bitmap);
        exchange_act(l->x);
    } else if (m->bitmap.len > 0) {
        (void)remote_keep(l, &m->pack, m->bitmap.data, m->bitmap.len);
    } else if (r != NULL && !r->leaving) {
        remote_drop(l, r);
    }
}

/* ---- taken up ---- */

static void take_slot(struct exchange *x, struct exchange_pack *p)
{
    size_t need = (size_t)p->number + 1;

    if (x->nslots < need) {
        x->slots = mem_realloc(x->slots, need * sizeof(struct exchange_pack *));
        x->nslots = need;
    }
    x->slots[p->number] = p;
}

void pack_take_up(struct exchange *x, struct exchange_pack *p)
{
    take_slot(x, p);
    LIST_EACH (&x->links, n) {
        struct exchange_link *l = CONTAINER_OF(n, struct exchange_link, node);
        struct remote *r = remote_find(l, &p->hash);

        if (r == NULL)
            continue;
        if (r->bitmap.len > 0)
            step_bitmap(l, p, (struct bytes){ (unsigned char *)r->bitmap.data, r->bitmap.len });
        remote_drop(l, r);
    }
    tell_tracker(x, p);
    exchange_act(x);
}

void pack_finish(struct exchange_pack *p, int status)
{
    struct exchange_fetch *f = p->fetch;
    struct exchange *x;

    if (f == NULL)
        return;
    x = f->x;
    tally_pack(p);
    p->fetch = NULL;
    peer_pack_rest(x->peer, p->number);
    pack_save(p);
    if (status == 0)
        tell_tracker(x, p);
    f->p = NULL;
    f->active = false;
    f->done(f, status);
}

int exchange_seed(struct exchange *x, const void *index, size_t len, const char *path,
                  struct err *err)
{
    struct hash hash = sha256_of(index, len);
    struct exchange_pack *p = pack_find(x, &hash);
    struct peer_pack_options o = { .complete = true };
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
    o.leaves = parsed->nleaves;
    p->number = peer_pack_open(x->peer, &o, exchange_now(x));
    pack_take_up(x, p);
    return 0;
}

void exchange_vouch(struct exchange *x, const struct hash *pack, const uint64_t *sums)
{
    struct exchange_pack *p = pack_find(x, pack);

    if (p != NULL)
        memcpy(p->sums, sums, p->index->nleaves * sizeof(*sums));
}

/* ---- forgotten ---- */

static bool say_leaving(struct exchange_link *l, const struct hash *pack)
{
    struct msg_bitmap m = { *pack, { NULL, 0 } };
    struct err err = ERR_INIT;

    return link_send(l->link, MSG_BITMAP, &m, &err) == 0;
}

/* We know of it what a new link would know; what it told before we told anything is kept. */
static void leave_link(struct exchange_pack *p, struct exchange_link *l)
{
    const struct bitmap *has = peer_link_has(l->x->peer, l->number, p->number);
    struct remote *r;

    if (!peer_link_told(l->x->peer, l->number, p->number)) {
        if (has != NULL)
            (void)remote_keep(l, &p->hash, has->bytes, bitmap_size(has));
        return;
    }
    if (say_leaving(l, &p->hash))
        return;
    r = remote_keep(l, &p->hash, NULL, 0);
    if (r != NULL)
        r->leaving = true;
}

void pack_leave_rest(struct exchange_link *l)
{
    for (size_t i = l->nremotes; i-- > 0;)
        if (l->remotes[i].leaving && say_leaving(l, &l->remotes[i].hash))
            remote_drop(l, &l->remotes[i]);
}

void pack_drop(struct exchange *x, struct exchange_pack *p)
{
    LIST_EACH (&x->links, n) {
        if (p->number >= 0)
            leave_link(p, CONTAINER_OF(n, struct exchange_link, node));
    }
    if (p->number >= 0) {
        peer_pack_close(x->peer, p->number, exchange_now(x));
        x->slots[p->number] = NULL;
        p->number = -1;
    }
    map_remove(&x->packs, p->hex);
    p->forgotten = true;
    if (p->pending == 0)
        pack_free(x, p);
    exchange_act(x);
}

bool exchange_has(const struct exchange *x, const struct hash *pack, size_t first, size_t count)
{
    const struct exchange_pack *p = pack_find(x, pack);
    const struct bitmap *have;

    if (p == NULL || p->number < 0 || first + count > p->index->nleaves)
        return false;
    have = peer_pack_has(x->peer, p->number);
    for (size_t i = first; i < first + count; i++)
        if (!bitmap_get(have, i))
            return false;
    return true;
}

const char *exchange_path(const struct exchange *x, const struct hash *pack)
{
    const struct exchange_pack *p = pack_find(x, pack);

    return p != NULL && p->number >= 0 && peer_pack_done(x->peer, p->number) ? p->path : NULL;
}

const struct bitmap *exchange_leaves(const struct exchange *x, const struct hash *pack,
                                     uint64_t *ret_seed_bytes, uint64_t *ret_peer_bytes)
{
    const struct exchange_pack *p = pack_find(x, pack);
    const struct bitmap *have;

    if (p == NULL || p->number < 0)
        return NULL;
    have = peer_pack_has(x->peer, p->number);
    *ret_seed_bytes = *ret_peer_bytes = 0;
    for (size_t i = 0; i < p->index->nleaves; i++) {
        if (bitmap_get(have, i))
            *(bitmap_get(&p->seeded, i) ? ret_seed_bytes : ret_peer_bytes) +=
                pack_leaf_bytes(p->index, i);
    }
    return have;
}

const struct bitmap *exchange_bitmap(const struct exchange *x, const struct hash *pack)
{
    const struct exchange_pack *p = pack_find(x, pack);

    return p == NULL || p->number < 0 ? NULL : peer_pack_has(x->peer, p->number);
}

int64_t exchange_given_ms(const struct exchange *x, const struct hash *pack)
{
    const struct exchange_pack *p = pack_find(x, pack);

    return p == NULL ? 0 : p->given_ms;
}

void exchange_close(struct exchange *x, const struct hash *pack)
{
    struct exchange_pack *p = pack_find(x, pack);

    if (p == NULL)
        return;
    if (p->fetch != NULL)
        exchange_fetch_cancel(p->fetch);
    pack_drop(x, p);
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

        if (p->number >= 0)
            tell_tracker(x, p);
    }
}
