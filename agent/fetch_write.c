#include "fetch_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/full.h"
#include "fetch.h"
#include "io/files.h"
#include "store/unpack.h"

struct writer {
    struct writer_options o;
    struct work work;
    struct timer look;
    struct manifest *manifest;
    struct unpack *unpack;
    struct full *full; /* the pack's table, once its leaves are here */
    struct full_decoder *decoder;
    unsigned char *segment;
    int fd; /* the pack */
    char *staging, *tree, *pack_path, *mark;
    size_t next;   /* segment that is being written; manifest->nsegments: finishing */
    size_t at;     /* where to look first */
    bool *written; /* by segment: not to be looked at any more */
    bool opened, busy, stopped;
    uint64_t pack_bytes;
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

static int open_staged(struct writer *w)
{
    struct unpack_options o = { .staging = w->staging,
                                .dest = w->tree,
                                .manifest = w->manifest,
                                .artifact = w->o.reference->artifact };

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
    int rv = full_read_segment(w->decoder, w->full, w->manifest, w->next, read_pack, w, w->segment,
                               &w->err);

    return rv < 0 ? rv
                  : unpack_checked(w->unpack, w->next, w->segment,
                                   manifest_segment_bytes(w->manifest, w->next), &w->err);
}

/* The mark comes first: killed between the two, the next run finds the tree, and renames it. */
static int finish(struct writer *w)
{
    AUTO_FREE char *from = NULL;

    if (path_exists(w->o.to) && writer_was_done(w->o.dir))
        return 0;
    if (unpack_finish(w->unpack, &w->err) < 0 || file_publish(w->mark, "", 0, 0600, &w->err) < 0)
        return -(int)w->err.code;
    if (w->o.reference->is_file)
        from = mem_printf("%s/%s", w->tree, w->manifest->entries[0].path);
    else
        from = mem_strdup(w->tree);
    if (rename(from, w->o.to) < 0)
        return err_sys(&w->err, errno, "rename to %s", w->o.to);
    return 0;
}

static void work_run(struct work *work)
{
    struct writer *w = CONTAINER_OF(work, struct writer, work);

    if (!w->opened)
        w->status = open_staged(w);
    else if (w->full == NULL && w->manifest->nsegments > 0)
        w->status = read_table(w);
    else if (w->next < w->manifest->nsegments)
        w->status = write_segment(w);
    else
        w->status = finish(w);
}

/* ---- on the loop ---- */

static bool is_here(const struct writer *w, size_t segment)
{
    uint32_t first, count;

    full_segment_leaves(w->full, segment, &first, &count);
    return exchange_has(w->o.exchange, &w->o.reference->pack, first, count);
}

static bool table_is_here(const struct writer *w)
{
    size_t bytes = full_header_bytes(w->manifest->nsegments);

    return exchange_has(w->o.exchange, &w->o.reference->pack, 0,
                        (bytes + LEAF_BYTES - 1) / LEAF_BYTES);
}

/* Sets next; false: nothing can be done now. */
static bool choose(struct writer *w)
{
    bool all = true;

    if (!w->opened)
        return true;
    if (w->full == NULL && w->manifest->nsegments > 0)
        return table_is_here(w);
    for (size_t i = w->at; i < w->manifest->nsegments; i++) {
        w->written[i] = w->written[i] || !unpack_needed(w->unpack, i);
        if (w->written[i]) {
            w->at = all ? i + 1 : w->at;
            continue;
        }
        all = false;
        w->next = i;
        if (is_here(w, i))
            return true;
    }
    w->next = w->manifest->nsegments;
    return all && exchange_path(w->o.exchange, &w->o.reference->pack) != NULL;
}

static void done(struct writer *w, int status)
{
    timer_stop(&w->look);
    w->stopped = true;
    w->o.done(w->o.ctx, status, &w->err);
}

static void work_done(struct work *work)
{
    struct writer *w = CONTAINER_OF(work, struct writer, work);
    bool finished = w->opened && w->next == w->manifest->nsegments &&
                    (w->full != NULL || w->manifest->nsegments == 0);

    w->busy = false;
    if (w->stopped)
        return;
    if (w->status < 0) {
        done(w, w->status);
    } else if (finished) {
        done(w, 0);
    } else {
        w->opened = true;
        writer_look(w);
    }
}

void writer_look(struct writer *w)
{
    if (w->busy || w->stopped || !choose(w))
        return;
    w->busy = true;
    w->work = (struct work){ .run = work_run, .done = work_done };
    work_submit(w->o.pool, &w->work);
}

static void look(struct timer *t)
{
    writer_look(CONTAINER_OF(t, struct writer, look));
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
    w->decoder = full_decoder_new();
    w->segment = mem_alloc(SEGMENT_BYTES);
    w->written = mem_calloc(w->manifest->nsegments + 1, sizeof(*w->written));
    w->staging = mem_printf("%s/staging", o->dir);
    w->tree = mem_printf("%s/tree", o->dir);
    w->pack_path = mem_printf("%s/packs/%s.pack", o->dir, hash_hex(&o->reference->pack, hex));
    w->mark = mark_path(o->dir);
    w->next = w->manifest->nsegments + 1;
    timer_start(o->loop, &w->look, 0, FETCH_LOOK_MS, look);
    *ret = w;
    return 0;
}

void writer_stop(struct writer *w)
{
    w->stopped = true;
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
    full_free(w->full);
    full_decoder_free(w->decoder);
    manifest_free(w->manifest);
    if (w->fd >= 0)
        close(w->fd);
    free(w->written);
    free(w->segment);
    free(w->mark);
    free(w->pack_path);
    free(w->tree);
    free(w->staging);
    free(w);
}
