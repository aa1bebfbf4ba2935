#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/exchange_internal.h"

/* Fetching a pack: its index, then the file as far as it is there, then leaves (exchange_pack.c). */

struct opening {
    struct work work;
    struct exchange *x;
    struct exchange_pack *p;
    struct bitmap have;
    int status;
    struct err err;
};

/* Which leaves does the bitmap of an earlier run name, and are they really there? */
static int check_leaves(struct opening *o)
{
    struct exchange_pack *p = o->p;
    unsigned char *bytes = mem_realloc(NULL, bitmap_size(&o->have) + LEAF_BYTES);
    ssize_t n = pread(p->bitmap_fd, bytes, bitmap_size(&o->have), 0);
    struct bitmap named;

    bitmap_init(&named, o->have.bits);
    if (n == (ssize_t)bitmap_size(&named))
        (void)bitmap_load(&named, bytes, (size_t)n);
    for (size_t i = 0; i < named.bits; i++) {
        size_t len = pack_leaf_bytes(p->index, i);
        struct hash h;

        if (!bitmap_get(&named, i) || fd_read_at(p->fd, bytes, len, i * LEAF_BYTES, NULL) < 0)
            continue;
        h = sha256_of(bytes, len);
        if (hash_equal(&h, &p->index->leaves[i]))
            bitmap_put(&o->have, i, true);
    }
    bitmap_release(&named);
    free(bytes);
    return fd_write_at(p->bitmap_fd, o->have.bytes, bitmap_size(&o->have), 0, &o->err);
}

static int open_file(int *ret_fd, const char *path, struct err *err)
{
    *ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return *ret_fd < 0 ? err_sys(err, errno, "open %s", path) : 0;
}

static int open_files(struct opening *o)
{
    struct exchange_pack *p = o->p;
    AUTO_FREE char *bitmap_path = mem_printf("%s/%s.bitmap", o->x->dir, p->hex);
    int rv = open_file(&p->fd, p->path, &o->err);

    if (rv == 0)
        rv = open_file(&p->bitmap_fd, bitmap_path, &o->err);
    if (rv < 0)
        return rv;
    if (p->index->bytes > 0) {
        int os = posix_fallocate(p->fd, 0, (off_t)p->index->bytes);

        if (os != 0)
            return err_sys(&o->err, os, "reserve %llu bytes for %s",
                           (unsigned long long)p->index->bytes, p->path);
    }
    return check_leaves(o);
}

static void opening_run(struct work *w)
{
    struct opening *o = CONTAINER_OF(w, struct opening, work);

    o->status = open_files(o);
}

static void opened(struct opening *o)
{
    struct exchange_pack *p = o->p;

    p->checking = false;
    if (o->status < 0) {
        struct exchange_fetch *f = p->fetch;

        if (f != NULL) {
            f->err = o->err;
            pack_finish(p, o->status);
        }
        pack_drop(o->x, p);
        return;
    }
    for (size_t i = 0; i < o->have.bits; i++)
        if (bitmap_get(&o->have, i))
            (void)picker_got(p->picker, -1, i, 0);
    if (p->fetch != NULL)
        for (size_t i = 0; i < o->have.bits; i++)
            p->fetch->have_bytes += bitmap_get(&o->have, i) ? pack_leaf_bytes(p->index, i) : 0;
    pack_take_up(o->x, p);
    pack_maybe_done(o->x, p);
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
    free(o);
}

static void start_opening(struct exchange_fetch *f, struct pack_index *index)
{
    struct opening *o = mem_alloc(sizeof(*o));
    struct exchange_pack *p = pack_new(f->x, &f->pack, index);

    p->path = mem_printf("%s/%s.pack", f->x->dir, p->hex);
    p->checking = true;
    p->fetch = f;
    p->pending = 1;
    f->p = p;
    f->total_bytes = index->bytes;
    o->work = (struct work){ .run = opening_run, .done = opening_done };
    o->x = f->x;
    o->p = p;
    bitmap_init(&o->have, index->nleaves);
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
        f->done(f, status);
    }
    buf_release(&obj->out);
}

void exchange_fetch_start(struct exchange *x, struct exchange_fetch *f, const struct hash *pack,
                          void (*done)(struct exchange_fetch *f, int status))
{
    struct exchange_pack *p = pack_find(x, pack);

    f->pack = *pack;
    f->done = done;
    f->x = x;
    f->p = NULL;
    f->active = true;
    f->total_bytes = f->have_bytes = f->seed_bytes = f->peer_bytes = 0;
    f->err = (struct err)ERR_INIT;
    if (p == NULL) {
        /* An index has 32 bytes a leaf, and a head. */
        exchange_object_start(x, &f->index, pack, (size_t)LEAVES_MAX * HASH_BYTES + 128,
                              index_done);
        return;
    }
    p->fetch = f;
    f->p = p;
    f->total_bytes = p->index->bytes;
    for (size_t i = 0; i < p->index->nleaves; i++)
        f->have_bytes += bitmap_get(picker_have(p->picker), i) ? pack_leaf_bytes(p->index, i) : 0;
    timer_start(x->o.loop, &x->tick, 0, EXCHANGE_TICK_MS, x->tick.fn);
}

void exchange_fetch_cancel(struct exchange_fetch *f)
{
    if (!f->active)
        return;
    f->active = false;
    exchange_object_cancel(&f->index);
    buf_release(&f->index.out);
    if (f->p != NULL)
        f->p->fetch = NULL;
    f->p = NULL;
}
