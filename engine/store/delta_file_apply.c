#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/crew.h"
#include "store/delta_file_internal.h"
#include "store/delta_paths.h"
#include "store/pack_source.h"
#include "store/side.h"
#include "store/unpack.h"
#include "store/workplace.h"

struct applying {
    struct delta_opened pack;
    struct side base;
    struct pack_source *source;
    struct unpack *unpack;
    const struct delta_file_options *o;
    struct workplace work;
    char *dest; /* OUT, or for one file its tree in OUT.part, which is then moved */
};

/* Is that what we would make OUT of? */
static bool is_made(const struct applying *a, const char *path)
{
    struct side s = { 0 };
    const struct entry *wanted = a->pack.m->entries;
    bool made = side_open(&s, path, NULL) == 0 && s.is_tree == a->pack.info.tree;

    if (made && s.is_tree)
        made = hash_equal(&s.id, &a->pack.info.target);
    else if (made)
        made = hash_equal(&s.m->entries[0].hash, &wanted->hash) &&
               s.m->entries[0].mode == wanted->mode;
    side_close(&s);
    return made;
}

/* Some segments that follow each other: decoded while those before them are written. */
struct batch {
    size_t i, n;
    unsigned char *data;
};

struct relay {
    struct applying *a;
    struct batch next, ready; /* n 0: none */
    int status[2];            /* of decoding, of writing */
    struct err err[2];
};

/* The first segments from i on that are needed. */
static void choose(const struct applying *a, struct batch *b, size_t i)
{
    size_t end = a->pack.m->nsegments;

    while (i < end && !unpack_needed(a->unpack, i))
        i++;
    b->i = i;
    for (b->n = 0; b->n < PACK_SOURCE_TOGETHER && i < end && unpack_needed(a->unpack, i); i++)
        b->n++;
}

/* The decoder vouches for what it gives: it is not hashed again. */
static int write_batch(struct applying *a, const struct batch *b, struct err *err)
{
    int r = 0;

    for (size_t k = 0; r == 0 && k < b->n; k++)
        r = unpack_checked(a->unpack, b->i + k, b->data + k * SEGMENT_BYTES,
                           manifest_segment_bytes(a->pack.m, b->i + k), err);
    return r;
}

static void relay_job(void *arg, size_t job, unsigned worker)
{
    struct relay *r = arg;

    (void)worker;
    if (job == 0 && r->next.n > 0)
        r->status[0] =
            pack_source_read_some(r->a->source, r->next.i, r->next.n, r->next.data, &r->err[0]);
    if (job == 1)
        r->status[1] = write_batch(r->a, &r->ready, &r->err[1]);
}

/* Decodes `next` and writes `ready`, which then change places. */
static int relay_step(struct relay *r, const struct delta_pool *pool, struct err *err)
{
    struct batch written = r->ready;

    delta_each(pool, 2, relay_job, r);
    for (int i = 1; i >= 0; i--) {
        if (r->status[i] < 0)
            return err_set(err, r->err[i].code, "%s", r->err[i].text);
    }
    r->ready = r->next;
    r->next.data = written.data;
    choose(r->a, &r->next, r->ready.i + r->ready.n);
    return 0;
}

static int unpack_all(struct applying *a, struct err *err)
{
    struct delta_pool pool = { a->o->threads < 2 ? 1 : 2, crew_each, &pool };
    struct relay relay = { .a = a };
    size_t total = a->pack.m->nsegments;
    int r = 0;

    relay.next.data = mem_alloc((size_t)PACK_SOURCE_TOGETHER * SEGMENT_BYTES);
    relay.ready.data = mem_alloc((size_t)PACK_SOURCE_TOGETHER * SEGMENT_BYTES);
    choose(a, &relay.next, 0);
    for (;;) {
        if (a->o->progress != NULL && a->o->progress(a->o->ctx, "apply", relay.next.i, total) < 0)
            r = err_set(err, ERR_CANCELLED, "stopped");
        if (r < 0 || relay.next.n + relay.ready.n == 0)
            break;
        r = relay_step(&relay, &pool, err);
    }
    free(relay.next.data);
    free(relay.ready.data);
    return r < 0 ? r : unpack_finish(a->unpack, err);
}

/* An artifact of one file was unpacked as a tree of one file. */
static int move_file(const struct applying *a, struct err *err)
{
    AUTO_FREE char *from = mem_printf("%s/%s", a->dest, a->pack.m->entries[0].path);

    return file_publish_rename(from, a->work.out, err);
}

/* One before us was ended before it moved the file, which may be a link to the base's. */
static int doubt_file(const struct applying *a, struct err *err)
{
    AUTO_FREE char *file = mem_printf("%s/%s", a->dest, a->pack.m->entries[0].path);

    return path_exists(a->dest) && !is_made(a, file) ? dir_remove(a->dest, err) : 0;
}

static int open_source(struct applying *a, struct err *err)
{
    struct pack_description d = { .kind = a->pack.info.kind,
                                  .bytes = a->pack.info.pack_bytes,
                                  .read = delta_opened_read,
                                  .ctx = &a->pack,
                                  .target = a->pack.m,
                                  .target_id = a->pack.info.target,
                                  .base = a->base.m,
                                  .base_id = a->base.id,
                                  .base_files = &a->base.files };

    return pack_source_open(&a->source, &d, err);
}

static int check_base(const struct applying *a, const char *base, const char *path, struct err *err)
{
    char wanted[HASH_HEX], given[HASH_HEX];

    if (a->pack.info.kind != PACK_DELTA || hash_equal(&a->pack.info.base, &a->base.id))
        return 0;
    return err_set(err, ERR_INVALID,
                   "PACK %s was made from another base: from artifact %.12s, and BASE %s is %.12s; "
                   "names, modes and bytes must be those of then",
                   path, hash_hex(&a->pack.info.base, wanted), base, hash_hex(&a->base.id, given));
}

static int open_inputs(struct applying *a, const char *base, const char *path, struct err *err)
{
    int r = base == NULL ? 0 : side_open(&a->base, base, err);

    if (r == 0 && base != NULL)
        r = check_base(a, base, path, err);
    if (r == 0 && open_source(a, err) < 0)
        r = err_wrap(err, "PACK %s", path);
    return r;
}

static int make_out(struct applying *a, struct err *err)
{
    struct unpack_base b = { a->base.dir, a->base.m };
    struct unpack_options u = { .manifest = a->pack.m,
                                .artifact = a->pack.info.target,
                                .bases = &b,
                                .nbases = a->base.m != NULL,
                                .verify_staged = true,
                                .clone = !a->pack.info.tree };
    int r = workplace_open(&a->work, err);

    a->dest = a->pack.info.tree ? mem_strdup(a->work.out)
                                : workplace_path(&a->work, &a->pack.info.target);
    u.staging = a->work.staging;
    u.dest = a->dest;
    if (r == 0 && !a->pack.info.tree)
        r = doubt_file(a, err);
    if (r == 0)
        r = unpack_open(&a->unpack, &u, err);
    if (r == 0)
        r = unpack_all(a, err);
    if (r == -(int)ERR_NO_SPACE)
        r = err_wrap(err, "OUT %s: make room and run it again, it goes on from %s", a->work.out,
                     a->work.dir);
    return r < 0 || a->pack.info.tree ? r : move_file(a, err);
}

static int apply(struct applying *a, const char *base, const char *path, struct err *err)
{
    int r = delta_opened_open(&a->pack, path, err);

    if (r == 0)
        r = delta_paths_apply(base, a->work.out, err);
    if (r == 0 && base == NULL && a->pack.info.kind == PACK_DELTA)
        r = err_set(err, ERR_INVALID, "PACK %s is a delta: give the base that it was made from",
                    path);
    if (r == 0 && !a->pack.info.tree &&
        (a->pack.m->nentries != 1 || a->pack.m->entries->kind != ENTRY_FILE))
        r = err_set(err, ERR_INVALID, "PACK %s is said to be one file, and is a tree", path);
    if (r == 0 && a->o->progress != NULL && a->o->progress(a->o->ctx, "hash", 0, 1) < 0)
        r = err_set(err, ERR_CANCELLED, "stopped");
    if (r < 0)
        return r;
    if (!path_exists(a->work.out)) {
        r = open_inputs(a, base, path, err);
        if (r == 0)
            r = make_out(a, err);
    } else if (!workplace_is_left(&a->work) || !is_made(a, a->work.out)) {
        /* else one before us was ended when only its OUT.part was left to be removed */
        r = err_set(err, ERR_EXISTS, "%s: is there already", a->work.out);
    }
    return r < 0 ? r : workplace_remove(&a->work, err);
}

int delta_file_apply(const char *base, const char *path, const char *out,
                     const struct delta_file_options *options, struct delta_file_info *info,
                     struct err *err)
{
    struct delta_file_options o = delta_file_defaults(options);
    struct applying a = { .pack = { .fd = -1 }, .o = &o };
    int r;

    workplace_init(&a.work, out);
    r = apply(&a, base, path, err);
    if (r == 0)
        *info = a.pack.info;
    unpack_close(a.unpack);
    pack_source_close(a.source);
    side_close(&a.base);
    delta_opened_close(&a.pack);
    workplace_close(&a.work);
    free(a.dest);
    return r < 0 ? err_wrap(err, "delta apply") : 0;
}
