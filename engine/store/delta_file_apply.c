#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/base_check.h"
#include "store/crew.h"
#include "store/delta_file_internal.h"
#include "store/delta_paths.h"
#include "store/pack_source.h"
#include "store/side.h"
#include "store/unpack.h"
#include "store/workplace.h"

struct applying {
    const char *base_path, *pack_path; /* as given; base_path NULL: none */
    struct delta_opened pack;
    char *base_dir;                /* that the base's paths are beneath */
    struct base_check *base_check; /* NULL: it is a full pack */
    struct tree_files *reader;
    struct delta_files base_files;
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

/* A segment: decoded while the one before it is written. */
struct handed {
    size_t i; /* NO_SEGMENT: none */
    unsigned char *data;
};

struct relay {
    struct applying *a;
    struct handed next, ready;
    int status[2]; /* of decoding, of writing */
    struct err err[2];
};

/* All that goes on at the same time: the base is hashed while it is read to decode. */
struct work {
    struct applying *a;
    pthread_mutex_t lock; /* of done, and of the progress callback */
    uint64_t done, total; /* bytes */
    int status[CREW_MAX + 1];
    struct err err[CREW_MAX + 1];
};

#define NO_SEGMENT SIZE_MAX

enum { JOB_HASH, JOB_DECODE }; /* and any number that hash, too */

/* The first segment from i on that is needed. */
static size_t choose(const struct applying *a, size_t i)
{
    while (i < a->pack.m->nsegments && !unpack_needed(a->unpack, i))
        i++;
    return i < a->pack.m->nsegments ? i : NO_SEGMENT;
}

static void relay_job(void *arg, size_t job, unsigned worker)
{
    struct relay *r = arg;

    (void)worker;
    if (job == 0 && r->next.i != NO_SEGMENT)
        r->status[0] = pack_source_read(r->a->source, r->next.i, r->next.data, &r->err[0]);
    if (job == 1 &&
        r->ready.i != NO_SEGMENT) /* the decoder vouches for it: it is not hashed again */
        r->status[1] = unpack_checked(r->a->unpack, r->ready.i, r->ready.data,
                                      manifest_segment_bytes(r->a->pack.m, r->ready.i), &r->err[1]);
}

/* Decodes `next` and writes `ready`, which then change places. */
static int relay_step(struct relay *r, const struct delta_pool *pool, struct err *err)
{
    struct handed written = r->ready;

    delta_each(pool, 2, relay_job, r);
    for (int i = 1; i >= 0; i--) {
        if (r->status[i] < 0)
            return err_set(err, r->err[i].code, "%s", r->err[i].text);
    }
    r->ready = r->next;
    r->next.data = written.data;
    r->next.i = r->ready.i == NO_SEGMENT ? NO_SEGMENT : choose(r->a, r->ready.i + 1);
    return 0;
}

static int advance(void *work, uint64_t bytes)
{
    struct work *w = work;
    const struct delta_file_options *o = w->a->o;
    int r = 0;

    pthread_mutex_lock(&w->lock);
    w->done += bytes;
    if (o->progress != NULL)
        r = o->progress(o->ctx, "apply", w->done, w->total);
    pthread_mutex_unlock(&w->lock);
    return r < 0 ? r : 0;
}

/* The base is not what it should be, or what it is does not matter any more. */
static bool is_over(const struct applying *a)
{
    return a->base_check != NULL && base_check_is_stopped(a->base_check);
}

static int decode_all(struct work *w, struct err *err)
{
    struct applying *a = w->a;
    struct delta_pool pool = { a->o->threads < 2 ? 1 : 2, crew_each, &pool };
    struct relay relay = { .a = a };
    int r = 0;

    relay.next = (struct handed){ choose(a, 0), mem_alloc(SEGMENT_BYTES) };
    relay.ready = (struct handed){ NO_SEGMENT, mem_alloc(SEGMENT_BYTES) };
    while (!is_over(a)) {
        size_t i = relay.ready.i;

        if (advance(w, i == NO_SEGMENT ? 0 : manifest_segment_bytes(a->pack.m, i)) < 0)
            r = err_set(err, ERR_CANCELLED, "stopped");
        if (r < 0 || (i == NO_SEGMENT && relay.next.i == NO_SEGMENT))
            break;
        r = relay_step(&relay, &pool, err);
    }
    free(relay.next.data);
    free(relay.ready.data);
    return r;
}

static void work_job(void *arg, size_t job, unsigned worker)
{
    struct work *w = arg;
    struct applying *a = w->a;
    struct err *err = &w->err[job];

    (void)worker;
    if (job != JOB_DECODE) {
        if (a->base_check != NULL)
            w->status[job] = base_check_hash(a->base_check, advance, w, err);
        return;
    }
    w->status[job] = decode_all(w, err);
    /* What does not decode may do so for a wrong base: then its files tell more. */
    if (w->status[job] < 0 && a->base_check != NULL && err->code != ERR_CORRUPT &&
        err->code != ERR_NOT_FOUND)
        base_check_stop(a->base_check);
}

static int other_base(const struct applying *a, struct err *err)
{
    if (err->code != ERR_INVALID)
        return err->code == ERR_CANCELLED ? -(int)err->code
                                          : err_wrap(err, "BASE %s", a->base_path);
    return err_wrap(err, "PACK %s was made from another base than BASE %s", a->pack_path,
                    a->base_path);
}

/* The base's failures come first: they may be why nothing decodes. */
static int outcome(const struct work *w, size_t jobs, struct err *err)
{
    for (size_t i = 0; i < jobs; i++) {
        if (i != JOB_DECODE && w->status[i] < 0) {
            err_set(err, w->err[i].code, "%s", w->err[i].text);
            return other_base(w->a, err);
        }
    }
    if (w->status[JOB_DECODE] == 0)
        return 0;
    err_set(err, w->err[JOB_DECODE].code, "%s", w->err[JOB_DECODE].text);
    return err->code == ERR_CORRUPT || err->code == ERR_NOT_FOUND
               ? err_wrap(err, "PACK %s", w->a->pack_path)
               : -(int)err->code;
}

static int unpack_all(struct applying *a, struct err *err)
{
    struct delta_pool pool = { a->o->threads, crew_each, &pool };
    size_t jobs = a->o->threads < 2 ? 2 : a->o->threads + 1;
    struct work *w = mem_alloc(sizeof(*w));
    int r;

    w->a = a;
    w->total =
        unpack_needed_bytes(a->unpack) + (a->base_check == NULL ? 0 : a->pack.base->stream_bytes);
    pthread_mutex_init(&w->lock, NULL);
    delta_each(&pool, jobs, work_job, w);
    r = outcome(w, jobs, err);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return r < 0 ? r : unpack_finish(a->unpack, err);
}

/* An artifact of one file was unpacked as a tree of one file. */
static int move_file(const struct applying *a, struct err *err)
{
    AUTO_FREE char *from = mem_printf("%s/%s", a->dest, a->pack.m->entries[0].path);

    return file_publish_new(from, a->work.out, err);
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
                                  .base = a->pack.base,
                                  .base_id = a->pack.info.base,
                                  .base_files = &a->base_files };

    return pack_source_open(&a->source, &d, err);
}

/* Where the base's files are. A file that is all of the base may have another name by now. */
static int find_base(struct applying *a, struct err *err)
{
    struct manifest *m = a->pack.base;
    AUTO_BUF real = BUF_INIT;
    char *slash;

    if (path_real(&real, a->base_path, err) < 0)
        return -(int)err->code;
    if (!path_is_dir(real.data)) {
        if (m->nentries != 1 || m->entries->kind != ENTRY_FILE)
            return err_set(err, ERR_INVALID, "it is one file, and should be a tree");
        slash = strrchr(real.data, '/');
        free(m->entries->path);
        m->entries->path = mem_strdup(slash + 1);
        *(slash == real.data ? slash + 1 : slash) = '\0';
    }
    a->base_dir = mem_strdup(real.data);
    return 0;
}

static int open_base(struct applying *a, struct err *err)
{
    int r = find_base(a, err);

    if (r == 0)
        r = base_check_open(&a->base_check, a->base_dir, a->pack.base, err);
    if (r < 0)
        return other_base(a, err);
    r = tree_files_open(&a->reader, a->base_dir, a->pack.base, err);
    a->base_files = (struct delta_files){ tree_files_read, a->reader };
    return r;
}

static int open_inputs(struct applying *a, struct err *err)
{
    int r = a->pack.base == NULL ? 0 : open_base(a, err);

    if (r == 0 && open_source(a, err) < 0)
        r = err_wrap(err, "PACK %s", a->pack_path);
    return r;
}

static int make_out(struct applying *a, struct err *err)
{
    struct unpack_base b = { a->base_dir, a->pack.base };
    struct unpack_options u = { .manifest = a->pack.m,
                                .artifact = a->pack.info.target,
                                .bases = &b,
                                .nbases = a->pack.base != NULL,
                                .verify_staged = true,
                                .clone = !a->pack.info.tree };
    int r = workplace_open(&a->work, err);

    if (r == 0 && path_exists(a->work.out)) /* since we looked */
        r = err_set(err, ERR_EXISTS, "%s: is there already", a->work.out);
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
    if ((r == -(int)ERR_INVALID || r == -(int)ERR_CORRUPT) && a->unpack != NULL &&
        !unpack_is_resumed(a->unpack))
        (void)!workplace_remove(&a->work, NULL); /* nothing of it can be used */
    if (r == -(int)ERR_NO_SPACE)
        r = err_wrap(err, "OUT %s: make room and run it again, it goes on from %s", a->work.out,
                     a->work.dir);
    return r < 0 || a->pack.info.tree ? r : move_file(a, err);
}

static int apply(struct applying *a, struct err *err)
{
    const char *base = a->base_path, *path = a->pack_path;
    int r = delta_opened_open(&a->pack, path, err);

    if (r == 0)
        r = delta_paths_apply(base, path, a->work.out, err);
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
        r = open_inputs(a, err);
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
    struct applying a = { .base_path = base, .pack_path = path, .pack = { .fd = -1 }, .o = &o };
    int r;

    workplace_init(&a.work, out);
    r = apply(&a, err);
    if (r == 0)
        *info = a.pack.info;
    unpack_close(a.unpack);
    pack_source_close(a.source);
    base_check_close(a.base_check);
    tree_files_close(a.reader);
    delta_opened_close(&a.pack);
    workplace_close(&a.work);
    free(a.dest);
    free(a.base_dir);
    return r < 0 ? err_wrap(err, "delta apply") : 0;
}
