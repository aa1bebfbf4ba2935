#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "store/exchange_internal.h"

/* Fetching a pack: its index, then the file as far as it is there, then leaves (exchange_pack.c). */

struct opening {
    struct work work;
    struct exchange *x;
    struct exchange_pack *p;
    struct bitmap have, seeded;
    bool some; /* not the whole pack: its space is not reserved */
    int status;
    struct err err;
};

/* The bitmaps of an earlier run; empty if they are not whole. */
static void read_bitmaps(const struct opening *o, struct bitmap *named, struct bitmap *seeded)
{
    size_t size = bitmap_size(named);
    unsigned char *bytes = mem_realloc(NULL, 2 * size + 1);

    if (pread(o->p->bitmap_fd, bytes, 2 * size, 0) == (ssize_t)(2 * size)) {
        (void)bitmap_load(named, bytes, size);
        (void)bitmap_load(seeded, bytes + size, size);
    }
    free(bytes);
}

static void check_named(struct opening *o, const struct bitmap *named)
{
    struct exchange_pack *p = o->p; /* nobody else's yet */
    unsigned char *bytes = mem_realloc(NULL, LEAF_BYTES);

    for (size_t i = 0; i < named->bits; i++) {
        size_t len = pack_leaf_bytes(p->index, i);
        struct hash h;

        if (!bitmap_get(named, i) || pack_read(p, bytes, len, i * LEAF_BYTES, NULL) < 0)
            continue;
        h = merkle_leaf(bytes, len);
        if (!hash_equal(&h, &p->index->leaves[i]))
            continue;
        p->sums[i] = checksum_of(bytes, len);
        bitmap_put(&o->have, i, true);
    }
    free(bytes);
}

/* Which leaves does the bitmap of an earlier run name, and are they really there? */
static int check_leaves(struct opening *o)
{
    struct exchange_pack *p = o->p;
    size_t size = bitmap_size(&o->have);
    struct bitmap named, seeded;
    int rv;

    bitmap_init(&named, o->have.bits);
    bitmap_init(&seeded, o->have.bits);
    read_bitmaps(o, &named, &seeded);
    if (named.set > 0)
        check_named(o, &named);
    for (size_t i = 0; i < o->have.bits; i++)
        bitmap_put(&o->seeded, i, bitmap_get(&o->have, i) && bitmap_get(&seeded, i));
    bitmap_release(&named);
    bitmap_release(&seeded);
    rv = fd_write_at(p->bitmap_fd, o->have.bytes, size, 0, &o->err);
    return rv < 0 ? rv : fd_write_at(p->bitmap_fd, o->seeded.bytes, size, size, &o->err);
}

static int open_file(int *ret_fd, const char *path, struct err *err)
{
    *ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return *ret_fd < 0 ? err_sys(err, errno, "open %s", path) : 0;
}

/* A disk that is too small is known before hours of fetching. */
static int take_space(struct opening *o)
{
    const struct exchange_pack *p = o->p;

    if ((o->some || p->placed != NULL) && ftruncate(p->fd, (off_t)p->index->bytes) < 0)
        return err_sys(&o->err, errno, "set the size of %s", p->path);
    if (o->some || p->index->bytes == 0)
        return 0;
    if (p->placed != NULL)
        return placed_reserve(p->placed, &o->err);
    if (fd_reserve(p->fd, p->index->bytes, &o->err) < 0)
        return err_wrap(&o->err, "%s", p->path);
    return 0;
}

static int open_files(struct opening *o)
{
    struct exchange_pack *p = o->p;
    AUTO_FREE char *bitmap_path = mem_printf("%s/%s.bitmap", o->x->dir, p->hex);
    int rv = open_file(&p->fd, p->path, &o->err);

    if (rv == 0)
        rv = open_file(&p->bitmap_fd, bitmap_path, &o->err);
    if (rv == 0)
        rv = take_space(o);
    return rv < 0 ? rv : check_leaves(o);
}

static void opening_run(struct work *w)
{
    struct opening *o = CONTAINER_OF(w, struct opening, work);

    o->status = open_files(o);
}

/* What of the wanted leaves is here already, and where it came from. */
static void count_fetch(const struct exchange *x, struct exchange_fetch *f,
                        const struct exchange_pack *p)
{
    const struct bitmap *have = peer_pack_has(x->peer, p->number);

    f->total_bytes = f->have_bytes = f->seed_bytes = f->peer_bytes = 0;
    for (size_t i = 0; i < p->index->nleaves; i++) {
        size_t len = pack_leaf_bytes(p->index, i);

        if (!peer_pack_wants(x->peer, p->number, i))
            continue;
        f->total_bytes += len;
        if (!bitmap_get(have, i))
            continue;
        f->have_bytes += len;
        if (!p->seeded_only)
            *(bitmap_get(&p->seeded, i) ? &f->seed_bytes : &f->peer_bytes) += len;
    }
}

/* What was unpacked already is not wanted, and counts as here. */
static void say_fetch(const struct exchange_fetch *f, const struct exchange_pack *p)
{
    uint64_t left = f->total_bytes - f->have_bytes;

    if (left > 0 && left < p->index->bytes)
        log_info("pack %.12s: %llu of %llu bytes are here already, or not needed", p->hex,
                 (unsigned long long)(p->index->bytes - left), (unsigned long long)p->index->bytes);
}

static void not_opened(struct opening *o)
{
    struct exchange_fetch *f = o->p->fetch;

    o->p->fetch = NULL;
    pack_drop(o->x, o->p);
    if (f == NULL)
        return;
    bitmap_release(&f->want);
    f->p = NULL;
    f->active = false;
    f->err = o->err;
    f->done(f, o->status);
}

static void opened(struct opening *o)
{
    struct exchange_pack *p = o->p;
    struct exchange_fetch *f = p->fetch;
    struct peer_pack_options options = { .leaves = p->index->nleaves, .have = &o->have };

    if (o->status < 0) {
        not_opened(o);
        return;
    }
    for (size_t i = 0; i < o->have.bits; i++) {
        bitmap_put(&p->verified, i, bitmap_get(&o->have, i));
        bitmap_put(&p->seeded, i, bitmap_get(&o->seeded, i));
    }
    if (f != NULL && f->some)
        options.wanted = f->want.bits == 0 ? &o->have : &f->want;
    options.resting = f == NULL;
    options.weight = f == NULL ? 0 : f->weight;
    p->number = peer_pack_open(o->x->peer, &options, exchange_now(o->x));
    if (f != NULL) {
        count_fetch(o->x, f, p);
        say_fetch(f, p);
        bitmap_release(&f->want);
    }
    pack_take_up(o->x, p);
}

static void opening_done(struct work *w)
{
    struct opening *o = CONTAINER_OF(w, struct opening, work);

    o->x->works--;
    o->p->pending--;
    if (!o->p->forgotten)
        opened(o);
    else if (o->p->pending == 0)
        pack_free(o->x, o->p);
    bitmap_release(&o->have);
    bitmap_release(&o->seeded);
    free(o);
}

static void start_opening(struct exchange_fetch *f, struct pack_index *index)
{
    struct opening *o = mem_alloc(sizeof(*o));
    struct exchange_pack *p = pack_new(f->x, &f->pack, index);

    p->path = mem_printf("%s/%s.pack", f->x->dir, p->hex);
    p->fetch = f;
    p->placed = f->placed;
    p->pending = 1;
    f->p = p;
    f->total_bytes = f->some ? 0 : index->bytes;
    o->work = (struct work){ .run = opening_run, .done = opening_done };
    o->x = f->x;
    o->p = p;
    o->some = f->some;
    bitmap_init(&o->have, index->nleaves);
    bitmap_init(&o->seeded, index->nleaves);
    f->x->works++;
    work_submit(f->x->o.pool, &o->work);
}

static void index_done(struct exchange_object *obj, int status)
{
    struct exchange_fetch *f = CONTAINER_OF(obj, struct exchange_fetch, index);
    struct pack_index *index = NULL;

    if (status == 0)
        status = pack_index_parse(&index, obj->out.data, obj->out.len, &f->err);
    else
        f->err = obj->err;
    if (status == 0) {
        start_opening(f, index);
    } else {
        f->active = false;
        bitmap_release(&f->want);
        f->done(f, status);
    }
    buf_release(&obj->out);
}

/* The pack is open. The callback comes from the timer: never from inside the start. */
static void restart(struct exchange *x, struct exchange_fetch *f, struct exchange_pack *p,
                    const struct bitmap *want)
{
    bool only_here = want != NULL && want->bits == 0;

    peer_pack_weigh(x->peer, p->number, f->weight);
    peer_pack_want(x->peer, p->number, only_here ? peer_pack_has(x->peer, p->number) : want,
                   exchange_now(x));
    count_fetch(x, f, p);
    say_fetch(f, p);
    exchange_act_soon(x);
}

static void start(struct exchange *x, struct exchange_fetch *f, const struct hash *pack,
                  const struct bitmap *want, void (*done)(struct exchange_fetch *f, int status))
{
    struct exchange_pack *p = pack_find(x, pack);

    f->pack = *pack;
    f->done = done;
    f->x = x;
    f->active = true;
    f->total_bytes = f->have_bytes = f->seed_bytes = f->peer_bytes = 0;
    f->err = (struct err)ERR_INIT;
    f->some = want != NULL;
    f->p = p;
    if (p != NULL) {
        tally_pack(p);
        p->fetch = f;
    }
    if (p != NULL && p->number >= 0) {
        restart(x, f, p, want);
        return;
    }
    bitmap_init(&f->want, f->some ? want->bits : 0);
    if (f->some)
        (void)bitmap_load(&f->want, want->bytes, bitmap_size(want));
    if (p ==
        NULL) /* else an earlier fetch was given up while its files were opened: they will be */
        exchange_object_start(x, &f->index, pack, EXCHANGE_INDEX_MAX, index_done);
}

void exchange_fetch_start(struct exchange *x, struct exchange_fetch *f, const struct hash *pack,
                          void (*done)(struct exchange_fetch *f, int status))
{
    start(x, f, pack, NULL, done);
}

void exchange_fetch_some(struct exchange *x, struct exchange_fetch *f, const struct hash *pack,
                         const struct bitmap *want,
                         void (*done)(struct exchange_fetch *f, int status))
{
    start(x, f, pack, want, done);
}

void exchange_fetch_cancel(struct exchange_fetch *f)
{
    if (!f->active)
        return;
    f->active = false;
    exchange_object_cancel(&f->index);
    buf_release(&f->index.out);
    bitmap_release(&f->want);
    if (f->p != NULL && f->p->number >= 0)
        peer_pack_rest(f->x->peer, f->p->number);
    if (f->p != NULL) {
        tally_pack(f->p);
        f->p->fetch = NULL;
    }
    f->p = NULL;
}
