#include "store/delta_file_internal.h"
#include "store/delta_paths.h"
#include "store/pack_costs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/beside.h"
#include "store/crew.h"
#include "store/pack_source.h"
#include "store/pack_trial.h"
#include "store/side.h"

struct making {
    const struct delta_file_options *o;
    struct side base, target;
    struct delta_stats *stats;
    const char *path;
    char *tmp, *payload_tmp;
    int fd, payload_fd;
    uint64_t at;    /* where the next payload goes in its file */
    uint64_t start; /* of the pack in the file */
    uint64_t pack_bytes;
};

static int note(const struct making *m, const char *what, uint64_t done, uint64_t total,
                struct err *err)
{
    if (m->o->progress != NULL && m->o->progress(m->o->ctx, what, done, total) < 0)
        return err_set(err, ERR_CANCELLED, "stopped");
    return 0;
}

static int emit(void *ctx, const void *data, size_t len, struct err *err)
{
    struct making *m = ctx;
    int r = fd_write_at(m->payload_fd, data, len, m->at, err);

    m->at += len;
    return r < 0 ? err_wrap(err, "PACK %s", m->path) : 0;
}

static int write_pack(void *ctx, const void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct making *m = ctx;

    if (fd_write_at(m->fd, data, len, m->start + offset, err) < 0)
        return err_wrap(err, "PACK %s", m->path);
    return 0;
}

static int read_pack(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct making *m = ctx;

    return fd_read_at(m->fd, data, len, m->start + offset, err);
}

static int encoded(void *ctx, uint64_t done, uint64_t total)
{
    const struct making *m = ctx;

    return note(m, "encode", done, total, NULL);
}

static int open_temp(char **ret_path, int *ret_fd, const char *path, struct err *err)
{
    return beside_open(ret_path, ret_fd, path, err) < 0 ? err_wrap(err, "PACK %s", path) : 0;
}

/* The file's own head, in front of the pack. d: of a delta. */
static int write_head(struct making *m, const struct delta *d, struct err *err)
{
    AUTO_BUF head = BUF_INIT;
    int r = delta_file_head(&head, m->target.is_tree, m->target.m, m->base.m, d, err);

    m->start = head.len;
    return r < 0 ? r : fd_write_at(m->fd, head.data, head.len, 0, err);
}

/* The head of a delta pack, read from memory. */
static int read_memory(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct buf *b = ctx;

    if (offset > b->len || len > b->len - offset)
        return err_set(err, ERR_INTERNAL, "the head of a new pack ends early");
    memcpy(data, b->data + offset, len);
    return 0;
}

static int write_heads(struct making *m, struct buf *head, struct err *err)
{
    struct delta *d = NULL;
    int r = delta_read(&d, read_memory, head, head->len + m->at, m->base.m, &m->base.id,
                       m->target.m, &m->target.id, err);

    if (r == 0)
        r = write_head(m, d, err);
    delta_free(d);
    return r < 0 ? r : write_pack(m, head->data, head->len, 0, err);
}

static int copy_payloads(struct making *m, uint64_t to, struct err *err)
{
    unsigned char *buffer = mem_alloc(SEGMENT_BYTES);
    int r = 0;

    for (uint64_t at = 0; r == 0 && at < m->at;) {
        size_t n = m->at - at < SEGMENT_BYTES ? (size_t)(m->at - at) : SEGMENT_BYTES;

        r = fd_read_at(m->payload_fd, buffer, n, at, err);
        if (r == 0)
            r = write_pack(m, buffer, n, to + at, err);
        at += n;
    }
    free(buffer);
    m->pack_bytes = to + m->at;
    return r;
}

static int make_delta(struct making *m, const char *path, struct err *err)
{
    struct delta_pool pool = { m->o->threads, crew_each, &pool };
    struct delta_encode_options o = { .base = m->base.m,
                                      .target = m->target.m,
                                      .base_id = m->base.id,
                                      .target_id = m->target.id,
                                      .base_files = &m->base.files,
                                      .target_files = &m->target.files,
                                      .level = m->o->level,
                                      .pool = &pool,
                                      .emit = emit,
                                      .progress = encoded,
                                      .ctx = m };
    AUTO_BUF head = BUF_INIT;
    int r = open_temp(&m->payload_tmp, &m->payload_fd, path, err);

    if (r == 0)
        unlink(m->payload_tmp); /* nobody else needs its name, and a kill leaves nothing */
    if (r == 0)
        r = delta_encode(&o, &head, m->stats, err);
    if (r == 0)
        r = write_heads(m, &head, err);
    return r < 0 ? r : copy_payloads(m, head.len, err);
}

static int make_full(struct making *m, struct err *err)
{
    const struct manifest *t = m->target.m;
    const struct search_target target = { t, &m->target.files, NULL };
    struct full_encoder *e = NULL;
    unsigned char *data = mem_alloc(SEGMENT_BYTES);
    int r = write_head(m, NULL, err);

    if (r == 0)
        r = full_encoder_new(&e, t->nsegments, m->o->level, write_pack, m, err);
    for (size_t i = 0; r == 0 && i < t->nsegments; i++) {
        size_t len = manifest_segment_bytes(t, i);

        r = search_read(&target, (uint64_t)i * SEGMENT_BYTES, data, len, err);
        if (r == 0)
            r = full_encoder_add(e, data, len, err);
        if (r == 0)
            r = note(m, "encode", (uint64_t)i * SEGMENT_BYTES + len, t->stream_bytes, err);
    }
    if (r == 0)
        r = full_encoder_finish(e, &m->target.id, &m->pack_bytes, err);
    full_encoder_free(e);
    free(data);
    return r;
}

static struct pack_description pack_of(struct making *m)
{
    bool delta = m->base.m != NULL;

    return (struct pack_description){ .kind = delta ? PACK_DELTA : PACK_FULL,
                                      .bytes = m->pack_bytes,
                                      .read = read_pack,
                                      .ctx = m,
                                      .target = m->target.m,
                                      .target_id = m->target.id,
                                      .base = m->base.m,
                                      .base_id = m->base.id,
                                      .base_files = &m->base.files };
}

/* What is the same on both sides was read once, and what is copied is not tried: a file that was written
 * to meanwhile may have been read half old and half new. */
static int check_still(const struct making *m, struct err *err)
{
    if (m->base.tree != NULL && tree_still(m->base.tree, err) < 0)
        return err_wrap(err, "BASE");
    return tree_still(m->target.tree, err) < 0 ? err_wrap(err, "TARGET") : 0;
}

/* The pack does not yield the target. Is it because something changed meanwhile? */
static int blame(const struct making *m, const struct err *why, struct err *err)
{
    int r = check_still(m, err);

    if (r < 0)
        return r;
    err_set(err, why->code, "%s", why->text);
    return err_wrap(err, "test of the new pack");
}

static int tested(void *ctx, uint64_t done, uint64_t total)
{
    const struct making *m = ctx;

    return note(m, "test", done, total, NULL);
}

static int test_apply(struct making *m, struct err *err)
{
    struct delta_pool pool = { m->o->threads, crew_each, &pool };
    struct err why = ERR_INIT;
    struct pack_trial t = {
        .pack = pack_of(m), .pool = &pool, .progress = tested, .progress_ctx = m
    };
    int r = note(m, "test", 0, 1, err);

    if (r == 0)
        r = pack_trial(&t, &why);
    if (r < 0 && why.code == ERR_CANCELLED)
        return err_set(err, ERR_CANCELLED, "%s", why.text);
    return r < 0 && why.code != ERR_NONE ? blame(m, &why, err) : r;
}

static int open_sides(struct making *m, const char *base, const char *target, struct err *err)
{
    struct delta_pool pool = { m->o->threads, crew_each, &pool };

    if (base == NULL)
        return side_open(&m->target, target, err);
    return side_open_two(&m->base, base, &m->target, target, &pool, err);
}

/* The digest of what was written, in the head. */
static int seal(struct making *m, struct err *err)
{
    struct hash digest;
    int r = delta_file_digest(m->fd, m->start + m->pack_bytes, &digest, err);

    if (r == 0)
        r = fd_write_at(m->fd, digest.b, HASH_BYTES, DELTA_FILE_DIGEST_AT, err);
    if (r == 0 && fchmod(m->fd, 0644) < 0)
        r = err_sys(err, errno, "chmod %s", m->tmp);
    return r;
}

/* The encoder of deltas has done so. */
static int count_costs(struct making *m, struct err *err)
{
    struct pack_description p = pack_of(m);
    int r = p.kind == PACK_FULL ? pack_costs(m->stats, &p, err) : 0;

    if (r == 0 && m->o->costs != NULL)
        delta_file_costs_init(m->o->costs, &m->stats->top, m->target.m);
    return r;
}

static int make(struct making *m, const char *base, const char *target, const char *path,
                struct err *err)
{
    int r = delta_paths_make(base, target, path, err);

    if (r == 0)
        r = note(m, "hash", 0, 1, err);
    if (r == 0)
        r = open_sides(m, base, target, err);
    if (r == 0)
        r = note(m, "encode", 0, 1, err); /* from now on there is something to clean up */
    if (r == 0)
        r = open_temp(&m->tmp, &m->fd, path, err);
    if (r == 0)
        r = base == NULL ? make_full(m, err) : make_delta(m, path, err);
    if (r == 0)
        r = test_apply(m, err);
    if (r == 0)
        r = check_still(m, err);
    if (r == 0)
        r = count_costs(m, err);
    if (r == 0)
        r = seal(m, err);
    return r < 0 ? r : file_publish_rename(m->tmp, path, err);
}

struct delta_file_options delta_file_defaults(const struct delta_file_options *given)
{
    struct delta_file_options o = given == NULL ? (struct delta_file_options){ 0 } : *given;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (o.level == 0)
        o.level = DELTA_LEVEL;
    if (o.threads == 0)
        o.threads = processors < 1 ? 1 : (unsigned)processors;
    if (o.threads > DELTA_THREADS_MAX)
        o.threads = DELTA_THREADS_MAX;
    return o;
}

int delta_file_make(const char *base, const char *target, const char *path,
                    const struct delta_file_options *options, struct delta_stats *stats,
                    struct delta_file_info *info, struct err *err)
{
    struct delta_file_options o = delta_file_defaults(options);
    struct making m = { .o = &o, .stats = stats, .path = path, .fd = -1, .payload_fd = -1 };
    int r;

    memset(stats, 0, sizeof(*stats));
    r = make(&m, base, target, path, err);
    if (r == 0)
        *info = (struct delta_file_info){ .tree = m.target.is_tree,
                                          .kind = base == NULL ? PACK_FULL : PACK_DELTA,
                                          .base = m.base.id,
                                          .target = m.target.id,
                                          .files = delta_count_files(m.target.m),
                                          .stream_bytes = m.target.m->stream_bytes,
                                          .file_bytes = m.start + m.pack_bytes,
                                          .pack_bytes = m.pack_bytes,
                                          .segments = m.target.m->nsegments };
    if (m.fd >= 0)
        close(m.fd);
    if (m.payload_fd >= 0)
        close(m.payload_fd);
    if (r < 0 && m.tmp != NULL)
        unlink(m.tmp);
    free(m.tmp);
    free(m.payload_tmp);
    side_close(&m.base);
    side_close(&m.target);
    return r < 0 ? err_wrap(err, "delta make") : 0;
}
