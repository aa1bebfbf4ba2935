#include "fetch_write.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "delta/full.h"
#include "fetch.h"
#include "fetch_check.h"
#include "io/files.h"
#include "store/unpack.h"

enum job { JOB_NONE = 0, JOB_OPEN, JOB_TABLE, JOB_SEGMENT, JOB_FINISH };

struct writer {
    struct writer_options o;
    struct work work;
    struct timer look;
    struct manifest *manifest;
    struct unpack *unpack;
    struct placed *placed;
    struct full *full;            /* the pack's table, once its leaves are here */
    struct full_decoder *decoder; /* unless it is placed */
    unsigned char *bytes;         /* likewise: of a segment */
    int fd;                       /* the pack */
    char *staging, *tree, *pack_path, *mark;
    enum job job;  /* in the pool */
    size_t next;   /* segment */
    size_t at;     /* where to look first */
    size_t seen;   /* leaves that were here when nothing could be done */
    bool *written; /* by segment: not to be looked at any more */
    bool opened, busy, stopped;
    atomic_bool cancelled; /* stopped, for who reads much in the pool */
    bool fetched;          /* all of the pack was here */
    int lost;              /* times that this was not so any more */
    char *complete;        /* where an earlier run has left all of it: the tree, or PATH */
    int status;
    struct err err;
};

static int read_pack(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    return fd_read_at(((const struct writer *)ctx)->fd, data, len, offset, err);
}

static char *mark_path(const char *dir)
{
    return mem_printf("%s/renamed", dir);
}

bool writer_was_done(const char *dir)
{
    AUTO_FREE char *mark = mark_path(dir);

    return path_exists(mark);
}

/* ---- in the pool ---- */

/* Of a tree that is a file: the file in it. */
static char *inside(const struct writer *w, const char *tree)
{
    return w->o.reference->is_file ? mem_printf("%s/%s", tree, w->manifest->entries[0].path)
                                   : mem_strdup(tree);
}

/* PATH is its owner's: what has been changed is never written over. */
static int check_there(struct writer *w)
{
    log_info("%s is there: it is compared with what was fetched", w->o.to);
    if (fetch_check(w->o.to, w->manifest, w->o.reference->is_file, &w->cancelled, &w->err) == 0) {
        log_info("%s is as it was fetched", w->o.to);
        return 0;
    }
    if (w->err.code == ERR_CANCELLED)
        return -(int)w->err.code;
    return err_wrap(
        &w->err,
        "%s was fetched before and has been changed since; nothing is overwritten: move "
        "it away to fetch it anew, or remove %s to keep it as it is",
        w->o.to, w->o.dir);
}

/* Of a run before this one: a mark though PATH is gone, a tree that is not what it was. */
static int drop_leftovers(struct writer *w)
{
    AUTO_FREE char *from = inside(w, w->tree);
    struct err why = ERR_INIT;

    if (unlink(w->mark) < 0 && errno != ENOENT)
        return err_sys(&w->err, errno, "remove %s", w->mark);
    if (!path_exists(w->tree) ||
        fetch_check(from, w->manifest, w->o.reference->is_file, &w->cancelled, &why) == 0)
        return 0;
    if (why.code == ERR_CANCELLED)
        return err_set(&w->err, why.code, "%s", why.text);
    log_warn("what an earlier run has left is fetched again: %s", why.text);
    return dir_remove(w->tree, &w->err);
}

static int open_staged(struct writer *w)
{
    struct unpack_options o = { .staging = w->staging,
                                .dest = w->tree,
                                .manifest = w->manifest,
                                .artifact = w->o.reference->artifact };

    if (path_exists(w->o.to) && writer_was_done(w->o.dir)) {
        w->complete = mem_strdup(w->o.to);
        return check_there(w);
    }
    if (drop_leftovers(w) < 0)
        return -(int)w->err.code;
    if (path_exists(w->tree))
        w->complete = mem_strdup(w->tree);
    return unpack_open(&w->unpack, &o, &w->err);
}

static int read_table(struct writer *w)
{
    off_t end;

    if (w->fd < 0 && file_open_read(&w->fd, w->pack_path, &w->err) < 0)
        return -(int)w->err.code;
    end = lseek(w->fd, 0, SEEK_END);
    if (end < 0)
        return err_sys(&w->err, errno, "size of %s", w->pack_path);
    return full_read(&w->full, read_pack, w, (uint64_t)end, w->manifest, &w->o.reference->artifact,
                     &w->err);
}

static int write_segment(struct writer *w)
{
    int r;

    if (w->placed != NULL) {
        r = placed_verified(w->placed, w->next, &w->err);
        return r < 0 ? r : unpack_placed(w->unpack, w->next, &w->err);
    }
    r = full_read_segment(w->decoder, w->full, w->manifest, w->next, read_pack, w, w->bytes,
                          &w->err);
    return r < 0 ? r
                 : unpack_checked(w->unpack, w->next, w->bytes,
                                  manifest_segment_bytes(w->manifest, w->next), &w->err);
}

/* The mark comes first: killed between the two, the next run finds the tree, and renames it. */
static int finish(struct writer *w)
{
    AUTO_FREE char *from = NULL;

    if (w->placed != NULL)
        placed_seal(w->placed); /* it is the user's from here on */
    if (w->complete != NULL && strcmp(w->complete, w->o.to) == 0)
        return 0;
    if (unpack_finish(w->unpack, &w->err) < 0 || file_publish(w->mark, "", 0, 0600, &w->err) < 0)
        return -(int)w->err.code;
    from = inside(w, w->tree);
    if (file_publish_new(from, w->o.to, &w->err) == 0)
        return 0;
    (void)unlink(w->mark); /* what is there is not ours */
    return -(int)w->err.code;
}

static void work_run(struct work *work)
{
    struct writer *w = CONTAINER_OF(work, struct writer, work);

    if (w->job == JOB_OPEN)
        w->status = open_staged(w);
    else if (w->job == JOB_TABLE)
        w->status = read_table(w);
    else if (w->job == JOB_SEGMENT)
        w->status = write_segment(w);
    else
        w->status = finish(w);
}

/* ---- on the loop ---- */

static bool are_here(const struct bitmap *have, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        if (i >= have->bits || !bitmap_get(have, i))
            return false;
    }
    return true;
}

static bool is_here(const struct writer *w, const struct bitmap *have, size_t segment)
{
    uint32_t first, count;

    full_segment_leaves(w->full, segment, &first, &count);
    return are_here(have, first, count);
}

static bool table_is_here(const struct writer *w, const struct bitmap *have)
{
    size_t bytes = full_header_bytes(w->manifest->nsegments);

    return are_here(have, 0, (bytes + LEAF_BYTES - 1) / LEAF_BYTES);
}

/* Sets next, if one can be written; true: no segment is missing. */
static bool choose_segment(struct writer *w, const struct bitmap *have, bool *ret_chosen)
{
    bool all = true;

    for (size_t i = w->at; i < w->manifest->nsegments && !*ret_chosen; i++) {
        w->written[i] = w->written[i] || !unpack_needed(w->unpack, i);
        if (w->written[i]) {
            w->at = all ? i + 1 : w->at;
            continue;
        }
        all = false;
        *ret_chosen = is_here(w, have, i);
        w->next = i;
    }
    return all;
}

static enum job choose_from(struct writer *w, const struct bitmap *have, bool all_here)
{
    bool fetched = all_here || (w->fetched && w->placed == NULL), chosen = false;

    if (w->complete != NULL || w->manifest->nsegments == 0)
        return w->fetched ? JOB_FINISH : JOB_NONE;
    if (have->set == w->seen && !fetched)
        return JOB_NONE;
    w->seen = have->set;
    if (w->full == NULL)
        return table_is_here(w, have) ? JOB_TABLE : JOB_NONE;
    if (choose_segment(w, have, &chosen))
        return fetched ? JOB_FINISH : JOB_NONE;
    if (!chosen)
        return JOB_NONE;
    w->seen = SIZE_MAX; /* there may be more */
    return JOB_SEGMENT;
}

static enum job choose(struct writer *w)
{
    const struct hash *pack = &w->o.reference->pack;
    const struct bitmap *have = exchange_bitmap(w->o.exchange, pack);

    if (!w->opened)
        return JOB_OPEN;
    return have == NULL ? JOB_NONE
                        : choose_from(w, have, exchange_path(w->o.exchange, pack) != NULL);
}

static void done(struct writer *w, int status)
{
    timer_stop(&w->look);
    w->stopped = true;
    w->o.done(w->o.ctx, status, &w->err);
}

static void forget_pack(struct writer *w)
{
    full_free(w->full);
    w->full = NULL;
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

/* Every leaf was right when it came. */
static bool may_be_damaged(const struct writer *w)
{
    if (w->job == JOB_TABLE && (w->status == -ERR_NOT_FOUND || w->status == -ERR_INVALID))
        return true;
    return (w->job == JOB_TABLE || w->job == JOB_SEGMENT) && w->status == -ERR_CORRUPT;
}

/* look: some job has met with it, and nobody knows which leaves they are. */
static void lost(struct writer *w, bool look)
{
    if (w->lost++ == WRITER_LOST_MAX) {
        if (!look)
            err_set(&w->err, ERR_CORRUPT, "%s: not what was written there", w->pack_path);
        done(w, err_wrap(&w->err, "fetched again %d times: is the disk sound?", WRITER_LOST_MAX));
        return;
    }
    log_warn("some of what was fetched is damaged on this disk%s%s: it is fetched again",
             look ? ": " : "", look ? w->err.text : "");
    w->err = (struct err)ERR_INIT;
    w->fetched = false;
    w->seen = SIZE_MAX;
    forget_pack(w);
    w->o.lost(w->o.ctx, look);
}

static void look(struct writer *w);

static void work_done(struct work *work)
{
    struct writer *w = CONTAINER_OF(work, struct writer, work);

    w->busy = false;
    if (w->stopped)
        return;
    if (w->status < 0 && may_be_damaged(w)) {
        lost(w, true);
    } else if (w->status < 0) {
        done(w, w->status);
    } else if (w->job == JOB_FINISH) {
        done(w, 0);
    } else if (w->job == JOB_OPEN) {
        w->opened = true;
        w->o.opened(w->o.ctx);
    } else {
        w->seen = SIZE_MAX;
        look(w);
    }
}

static bool is_all_here(const struct writer *w)
{
    return exchange_path(w->o.exchange, &w->o.reference->pack) != NULL;
}

static void look(struct writer *w)
{
    if (w->busy || w->stopped)
        return;
    w->job = choose(w);
    if (w->job != JOB_NONE) {
        w->busy = true;
        w->work = (struct work){ .run = work_run, .done = work_done };
        work_submit(w->o.pool, &w->work);
    } else if (w->fetched && !is_all_here(w)) {
        lost(w, false);
    }
}

void writer_fetched(struct writer *w)
{
    w->fetched = true;
    look(w);
}

static void on_look(struct timer *t)
{
    look(CONTAINER_OF(t, struct writer, look));
}

static int check_manifest(const struct writer *w, struct err *err)
{
    if (w->o.reference->is_file &&
        (w->manifest->nentries != 1 || w->manifest->entries[0].kind != ENTRY_FILE))
        return err_set(err, ERR_CORRUPT, "the reference says a file; its manifest has a tree");
    return 0;
}

int writer_start(struct writer **ret, const struct writer_options *o, const struct buf *manifest,
                 struct err *err)
{
    struct writer *w = mem_alloc(sizeof(*w));
    char hex[HASH_HEX];

    w->o = *o;
    w->fd = -1;
    if (manifest_parse(&w->manifest, manifest->data, manifest->len, err) < 0 ||
        check_manifest(w, err) < 0) {
        writer_free(w);
        return -(int)err->code;
    }
    w->written = mem_calloc(w->manifest->nsegments + 1, sizeof(*w->written));
    w->staging = mem_printf("%s/staging", o->dir);
    w->tree = mem_printf("%s/tree", o->dir);
    w->pack_path = mem_printf("%s/packs/%s.pack", o->dir, hash_hex(&o->reference->pack, hex));
    w->mark = mark_path(o->dir);
    w->seen = SIZE_MAX;
    timer_start(o->loop, &w->look, 0, FETCH_LOOK_MS, on_look);
    *ret = w;
    return 0;
}

static void open_placed(struct writer *w)
{
    bool at_last = w->complete != NULL && strcmp(w->complete, w->o.to) == 0;
    AUTO_FREE char *staged = mem_printf("%s/tree", w->staging);
    AUTO_FREE char *path =
        at_last ? mem_strdup(w->o.to) : inside(w, w->complete == NULL ? staged : w->complete);
    struct placed_where where = { path, w->o.reference->is_file, w->complete != NULL };
    struct err err = ERR_INIT;

    if (placed_open(&w->placed, w->manifest, &where, &err) < 0)
        log_warn("the pack has a file of its own: %s", err.text);
}

int writer_place(struct writer *w, const struct pack_index *index, struct placed **ret,
                 struct err *err)
{
    char hex[HASH_HEX];

    if (full_is_aligned_stream(w->manifest, index->bytes) &&
        full_check_index(w->manifest, index, err) < 0)
        return err_wrap(err, "pack %.12s", hash_hex(&w->o.reference->pack, hex));
    if (placed_suits(w->manifest, index->bytes))
        open_placed(w);
    if (w->placed == NULL) {
        w->decoder = full_decoder_new();
        w->bytes = mem_alloc(SEGMENT_BYTES);
    }
    *ret = w->placed;
    return 0;
}

bool writer_is_complete(const struct writer *w)
{
    return w->complete != NULL;
}

void writer_stop(struct writer *w)
{
    w->stopped = true;
    atomic_store(&w->cancelled, true);
    timer_stop(&w->look);
}

bool writer_is_busy(const struct writer *w)
{
    return w->busy;
}

void writer_free(struct writer *w)
{
    if (w == NULL)
        return;
    timer_stop(&w->look);
    unpack_close(w->unpack);
    placed_free(w->placed);
    full_free(w->full);
    full_decoder_free(w->decoder);
    manifest_free(w->manifest);
    if (w->fd >= 0)
        close(w->fd);
    free(w->complete);
    free(w->written);
    free(w->bytes);
    free(w->mark);
    free(w->pack_path);
    free(w->tree);
    free(w->staging);
    free(w);
}
