#include "store/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/proc.h"
#include "store/beneath.h"
#include "store/layout.h"
#include "store/staged.h"

/* STAGING/state:
 *   "SLU1"  32 bytes artifact  64 bytes boot id  u32 entries  u32 segments
 *   bitmap of local entries, of durable segments, of written segments
 * A segment's bit in `written` is set as soon as its bytes are in the page cache, which outlives us
 * but not the machine: under another boot id only `durable` counts, which a checkpoint copies from
 * `written` when the bytes are on disk. */
enum {
    BOOT_BYTES = 64,
    HEAD_BYTES = 4 + HASH_BYTES + BOOT_BYTES + 4 + 4,
    SYNC_ONE_BY_ONE = 64,
    EARLY_BYTES = 1 << 20
};

struct unpack {
    const struct manifest *m;
    struct hash artifact;
    char *staging, *tree, *state, *dest;
    int tree_fd, state_fd;
    struct beneath dirs;   /* of tree_fd */
    struct bitmap local;   /* entries that came from the base: never written to */
    struct bitmap written; /* segments */
    struct bitmap stale;   /* segments that have other bytes on disk: no zero may be left out */
    struct bitmap dirty;   /* entries written to since the last checkpoint */
    size_t since;          /* segments since then */
    bool done;             /* dest was there */
    bool resumed;
    uint64_t local_bytes;
};

static void put_u32(unsigned char *b, size_t v)
{
    for (int i = 0; i < 4; i++)
        b[i] = (unsigned char)(v >> (8 * i));
}

static void state_head(const struct unpack *u, unsigned char head[HEAD_BYTES])
{
    memset(head, 0, HEAD_BYTES);
    memcpy(head, "SLU1", 4);
    memcpy(head + 4, u->artifact.b, HASH_BYTES);
    snprintf((char *)head + 4 + HASH_BYTES, BOOT_BYTES, "%s", proc_boot_id());
    put_u32(head + HEAD_BYTES - 8, u->m->nentries);
    put_u32(head + HEAD_BYTES - 4, u->m->nsegments);
}

static size_t durable_at(const struct unpack *u)
{
    return HEAD_BYTES + bitmap_size(&u->local);
}

static size_t written_at(const struct unpack *u)
{
    return durable_at(u) + bitmap_size(&u->written);
}

static int open_state(struct unpack *u, struct err *err)
{
    u->state_fd = open(u->state, O_RDWR | O_CLOEXEC);
    return u->state_fd < 0 ? err_sys(err, errno, "open %s", u->state) : 0;
}

/* Publishes a state in which everything that is written is durable. */
static int state_publish(struct unpack *u, struct err *err)
{
    AUTO_BUF b = BUF_INIT;
    unsigned char head[HEAD_BYTES];
    int r;

    state_head(u, head);
    buf_append(&b, head, sizeof(head));
    buf_append(&b, u->local.bytes, bitmap_size(&u->local));
    buf_append(&b, u->written.bytes, bitmap_size(&u->written));
    buf_append(&b, u->written.bytes, bitmap_size(&u->written));
    r = file_publish(u->state, b.data, b.len, 0600, err);
    return r < 0 ? r : open_state(u, err);
}

static bool all_local(const struct unpack *u, size_t i)
{
    uint64_t end = (uint64_t)i * SEGMENT_BYTES + manifest_segment_bytes(u->m, i);
    struct span s;

    for (size_t k = manifest_first_file(u->m, i); k < u->m->nentries; k++) {
        if (u->m->entries[k].offset >= end)
            break;
        if (manifest_span(u->m, i, k, &s) && !bitmap_get(&u->local, k))
            return false;
    }
    return true;
}

static void count_local(struct unpack *u, bool mark)
{
    for (size_t i = 0; i < u->m->nsegments; i++) {
        if (!all_local(u, i))
            continue;
        u->local_bytes += manifest_segment_bytes(u->m, i);
        if (mark)
            bitmap_put(&u->written, i, true);
    }
}

static int open_tree(struct unpack *u, struct err *err)
{
    u->tree_fd = open(u->tree, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    u->dirs = (struct beneath)BENEATH(u->tree_fd);
    return u->tree_fd < 0 ? err_sys(err, errno, "open %s", u->tree) : 0;
}

/* Its files are to be synced by the next checkpoint. */
static void mark_dirty(struct unpack *u, size_t i)
{
    struct span s;

    u->since++;
    for (size_t k = manifest_first_file(u->m, i); k < u->m->nentries; k++) {
        if (u->m->entries[k].offset >= (uint64_t)(i + 1) * SEGMENT_BYTES)
            break;
        if (!bitmap_get(&u->local, k) && manifest_span(u->m, i, k, &s))
            bitmap_put(&u->dirty, k, true);
    }
}

/* What was written but not made durable by the run before us is ours to sync. */
static void inherit_dirty(struct unpack *u, const struct bitmap *durable)
{
    for (size_t i = 0; i < u->m->nsegments; i++) {
        if (bitmap_get(&u->written, i) && !bitmap_get(durable, i))
            mark_dirty(u, i);
    }
}

/* What the state says of segment i is not so. Its durable bit goes, too. */
static int doubt(struct unpack *u, size_t i, struct err *err)
{
    unsigned char durable = 0;
    int r = fd_read_at(u->state_fd, &durable, 1, durable_at(u) + i / 8, err);

    bitmap_put(&u->written, i, false);
    if (r < 0)
        return r;
    durable = (unsigned char)(durable & u->written.bytes[i / 8]);
    return fd_write_at(u->state_fd, &durable, 1, durable_at(u) + i / 8, err);
}

/* The run before us was ended between writing a segment and saying so; or the power was, and then
 * more than one may be there, or what was never written. With verify, nothing is believed. */
static int salvage(struct unpack *u, bool verify, struct err *err)
{
    unsigned char *data = mem_alloc(SEGMENT_BYTES);
    struct staged staged = { u->tree_fd, u->m, &u->local, merkle_segment(data, SEGMENT_BYTES) };
    bool changed = false, touched = false;
    int r = 0;

    for (size_t i = 0; r == 0 && i < u->m->nsegments; i++) {
        bool said = bitmap_get(&u->written, i), holds;

        if (said && (!verify || all_local(u, i)))
            continue;
        holds = staged_holds(&staged, i, said, data, &touched);
        bitmap_put(&u->stale, i, !holds && touched);
        if (holds == said)
            continue;
        changed = true;
        if (said) {
            r = doubt(u, i, err);
        } else {
            bitmap_put(&u->written, i, true);
            mark_dirty(u, i);
        }
    }
    free(data);
    if (r < 0 || !changed)
        return r;
    return fd_write_at(u->state_fd, u->written.bytes, bitmap_size(&u->written), written_at(u), err);
}

/* False if this is no state of ours. */
static bool load_state(struct unpack *u, const struct buf *b, bool *ret_same_boot)
{
    unsigned char head[HEAD_BYTES];
    const char *bytes = b->data;
    size_t segments = bitmap_size(&u->written);
    struct bitmap durable;
    bool same_boot, good;

    state_head(u, head);
    if (b->len != written_at(u) + segments || memcmp(bytes, head, 4 + HASH_BYTES) != 0 ||
        memcmp(bytes + HEAD_BYTES - 8, head + HEAD_BYTES - 8, 8) != 0)
        return false;
    same_boot = memcmp(bytes + 4 + HASH_BYTES, head + 4 + HASH_BYTES, BOOT_BYTES) == 0;
    bitmap_init(&durable, u->m->nsegments);
    good = bitmap_load(&u->local, bytes + HEAD_BYTES, bitmap_size(&u->local)) &&
           bitmap_load(&durable, bytes + durable_at(u), segments) &&
           bitmap_load(&u->written, bytes + (same_boot ? written_at(u) : durable_at(u)), segments);
    if (good)
        inherit_dirty(u, &durable);
    bitmap_release(&durable);
    *ret_same_boot = same_boot;
    return good;
}

/* True if an earlier run can be continued. */
static bool resume(struct unpack *u, bool verify, struct err *err, int *ret_status)
{
    AUTO_BUF b = BUF_INIT;
    size_t max = written_at(u) + bitmap_size(&u->written);
    bool same_boot = false;

    *ret_status = 0;
    if (file_read(&b, u->state, max, NULL) < 0 || !load_state(u, &b, &same_boot) ||
        open_tree(u, NULL) < 0)
        return false;
    if ((verify || !same_boot) && !layout_is_whole(u->tree_fd, u->m, &u->local, verify))
        return false;
    count_local(u, false);
    *ret_status = same_boot ? open_state(u, err) : state_publish(u, err);
    if (*ret_status == 0)
        *ret_status = salvage(u, verify, err);
    return true;
}

static int start_over(struct unpack *u, const struct unpack_options *o, struct err *err)
{
    int r;

    beneath_release(&u->dirs);
    if (u->tree_fd >= 0)
        close(u->tree_fd);
    u->tree_fd = -1;
    bitmap_release(&u->local);
    bitmap_release(&u->written);
    bitmap_release(&u->stale);
    bitmap_release(&u->dirty);
    bitmap_init(&u->local, u->m->nentries);
    bitmap_init(&u->written, u->m->nsegments);
    bitmap_init(&u->stale, u->m->nsegments);
    bitmap_init(&u->dirty, u->m->nentries);
    u->since = 0;
    r = dir_remove(u->staging, err);
    if (r == 0)
        r = dir_make(u->tree, 0755, err);
    if (r == 0)
        r = open_tree(u, err);
    if (r == 0)
        r = layout_make(u->tree_fd, o, &u->local, err);
    if (r < 0)
        return r;
    count_local(u, true);
    return state_publish(u, err);
}

int unpack_open(struct unpack **ret, const struct unpack_options *o, struct err *err)
{
    struct unpack *u = mem_alloc(sizeof(*u));
    int r = 0;

    u->m = o->manifest;
    u->artifact = o->artifact;
    u->staging = mem_strdup(o->staging);
    u->tree = mem_printf("%s/tree", o->staging);
    u->state = mem_printf("%s/state", o->staging);
    u->dest = mem_strdup(o->dest);
    u->tree_fd = u->state_fd = u->dirs.fd = -1;
    bitmap_init(&u->local, u->m->nentries);
    bitmap_init(&u->written, u->m->nsegments);
    bitmap_init(&u->stale, u->m->nsegments);
    bitmap_init(&u->dirty, u->m->nentries);
    u->done = path_exists(o->dest);
    u->resumed = u->done || resume(u, o->verify_staged, err, &r);
    if (!u->resumed)
        r = start_over(u, o, err);
    if (r < 0) {
        unpack_close(u);
        return err_wrap(err, "unpack into %s", o->staging);
    }
    *ret = u;
    return 0;
}

void unpack_close(struct unpack *u)
{
    if (u == NULL)
        return;
    beneath_release(&u->dirs);
    if (u->tree_fd >= 0)
        close(u->tree_fd);
    if (u->state_fd >= 0)
        close(u->state_fd);
    bitmap_release(&u->local);
    bitmap_release(&u->written);
    bitmap_release(&u->stale);
    bitmap_release(&u->dirty);
    free(u->staging);
    free(u->tree);
    free(u->state);
    free(u->dest);
    free(u);
}

bool unpack_is_resumed(const struct unpack *u)
{
    return u->resumed;
}

bool unpack_needed(const struct unpack *u, size_t segment)
{
    return !u->done && !bitmap_get(&u->written, segment);
}

size_t unpack_needed_count(const struct unpack *u)
{
    return u->done ? 0 : u->m->nsegments - u->written.set;
}

uint64_t unpack_needed_bytes(const struct unpack *u)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < u->m->nsegments; i++) {
        if (unpack_needed(u, i))
            bytes += manifest_segment_bytes(u->m, i);
    }
    return bytes;
}

uint64_t unpack_room_bytes(const struct unpack *u)
{
    uint64_t bytes = 0;
    struct span s;

    for (size_t i = 0; i < u->m->nsegments; i++) {
        if (!unpack_needed(u, i))
            continue;
        for (size_t k = manifest_first_file(u->m, i); k < u->m->nentries; k++) {
            if (u->m->entries[k].offset >= (uint64_t)(i + 1) * SEGMENT_BYTES)
                break;
            if (!bitmap_get(&u->local, k) && manifest_span(u->m, i, k, &s))
                bytes += s.len;
        }
    }
    return bytes;
}

uint64_t unpack_local_bytes(const struct unpack *u)
{
    return u->local_bytes;
}

/* The disk may begin at once, while the next segment is made; a checkpoint waits for it. */
static void begin_writing(int fd, const struct span *s)
{
    if (s->len >= EARLY_BYTES)
        (void)sync_file_range(fd, (off_t)s->in_file, (off_t)s->len, SYNC_FILE_RANGE_WRITE);
}

/* data NULL: it lies there. */
static int write_part(struct unpack *u, size_t k, const struct span *s, const unsigned char *data,
                      bool stale, struct err *err)
{
    int fd = -1;
    int r = beneath_open(&fd, &u->dirs, u->m->entries[k].path, O_WRONLY | O_NONBLOCK, 0, err);

    if (r < 0)
        return r;
    if (data != NULL && stale)
        r = fd_write_at(fd, data + s->in_segment, s->len, s->in_file, err);
    else if (data != NULL)
        r = fd_write_sparse(fd, data + s->in_segment, s->len, s->in_file, u->m->entries[k].size,
                            err);
    if (r == 0)
        begin_writing(fd, s);
    close(fd);
    if (r < 0)
        return err_wrap(err, "write %s", u->m->entries[k].path);
    bitmap_put(&u->dirty, k, true);
    return 0;
}

static int write_parts(struct unpack *u, size_t i, const unsigned char *data, struct err *err)
{
    uint64_t end = (uint64_t)i * SEGMENT_BYTES + manifest_segment_bytes(u->m, i);
    struct span s;
    int r = 0;

    for (size_t k = manifest_first_file(u->m, i); r == 0 && k < u->m->nentries; k++) {
        if (u->m->entries[k].offset >= end)
            break;
        if (!bitmap_get(&u->local, k) && manifest_span(u->m, i, k, &s))
            r = write_part(u, k, &s, data, bitmap_get(&u->stale, i), err);
    }
    return r;
}

static int write_segment(struct unpack *u, size_t i, const unsigned char *data, struct err *err)
{
    int r = write_parts(u, i, data, err);

    if (r == 0) {
        bitmap_put(&u->written, i, true);
        r = fd_write_at(u->state_fd, &u->written.bytes[i / 8], 1, written_at(u) + i / 8, err);
    }
    if (r < 0) {
        bitmap_put(&u->written, i, false);
        return err_wrap(err, "unpack into %s", u->staging);
    }
    return ++u->since < UNPACK_BATCH ? 0 : unpack_checkpoint(u, err);
}

int unpack_segment(struct unpack *u, size_t i, const void *data, size_t len, struct err *err)
{
    struct hash h;

    if (i < u->m->nsegments && len == manifest_segment_bytes(u->m, i) && unpack_needed(u, i)) {
        h = merkle_segment(data, len);
        if (!hash_equal(&h, &u->m->segments[i]))
            return err_set(err, ERR_CORRUPT, "segment %zu: its digest is not the manifest's", i);
    }
    return unpack_checked(u, i, data, len, err);
}

int unpack_checked(struct unpack *u, size_t i, const void *data, size_t len, struct err *err)
{
    if (i >= u->m->nsegments || len != manifest_segment_bytes(u->m, i))
        return err_set(err, ERR_CORRUPT, "segment %zu: %zu bytes long", i, len);
    return unpack_needed(u, i) ? write_segment(u, i, data, err) : 0;
}

int unpack_placed(struct unpack *u, size_t i, struct err *err)
{
    return unpack_needed(u, i) ? write_segment(u, i, NULL, err) : 0;
}

static int sync_entry(struct unpack *u, size_t k, struct err *err)
{
    int fd = -1;
    int r = beneath_open(&fd, &u->dirs, u->m->entries[k].path, O_RDONLY | O_NONBLOCK, 0, err);

    if (r < 0)
        return r;
    if (fdatasync(fd) < 0)
        r = err_sys(err, errno, "sync %s", u->m->entries[k].path);
    close(fd);
    return r;
}

/* Many files: one flush of the file system is cheaper than one journal commit a file. */
static int sync_all(struct unpack *u, struct err *err)
{
    return syncfs(u->tree_fd) < 0 ? err_sys(err, errno, "sync %s", u->tree) : 0;
}

int unpack_checkpoint(struct unpack *u, struct err *err)
{
    int r = 0;

    if (u->done || u->since == 0)
        return 0;
    if (u->dirty.set > SYNC_ONE_BY_ONE) {
        r = sync_all(u, err);
    } else {
        for (size_t k = 0; r == 0 && k < u->m->nentries; k++)
            r = bitmap_get(&u->dirty, k) ? sync_entry(u, k, err) : 0;
    }
    if (r == 0)
        r = fd_write_at(u->state_fd, u->written.bytes, bitmap_size(&u->written), durable_at(u),
                        err);
    if (r == 0 && fdatasync(u->state_fd) < 0)
        r = err_sys(err, errno, "sync %s", u->state);
    if (r < 0)
        return err_wrap(err, "checkpoint");
    bitmap_release(&u->dirty);
    bitmap_init(&u->dirty, u->m->nentries);
    u->since = 0;
    return 0;
}

/* Final mode of a file or directory that is ours, and its metadata on disk if `sync`. */
static int seal_entry(struct unpack *u, size_t k, bool sync, struct err *err)
{
    const struct entry *e = &u->m->entries[k];
    bool is_dir = e->kind == ENTRY_DIR;
    struct stat st;
    int fd = -1;
    int r = beneath_open(&fd, &u->dirs, e->path, O_RDONLY | O_NONBLOCK | (is_dir ? O_DIRECTORY : 0),
                         0, err);

    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        r = err_sys(err, errno, "stat %s", e->path);
    else if (!is_dir && (uint64_t)st.st_size != e->size)
        r = err_set(err, ERR_CORRUPT, "%s: %lld bytes, should be %llu", e->path,
                    (long long)st.st_size, (unsigned long long)e->size);
    else if (fchmod(fd, e->mode | (is_dir ? 0700U : 0400U)) < 0 || (sync && fsync(fd) < 0))
        r = err_sys(err, errno, "finish %s", e->path);
    close(fd);
    return r;
}

static int seal(struct unpack *u, struct err *err)
{
    bool one_by_one = u->m->nentries <= SYNC_ONE_BY_ONE;
    int r = 0;

    for (size_t k = 0; r == 0 && k < u->m->nentries; k++) {
        if (u->m->entries[k].kind != ENTRY_LINK && !bitmap_get(&u->local, k))
            r = seal_entry(u, k, one_by_one, err);
    }
    if (r == 0 && !one_by_one)
        return sync_all(u, err);
    if (r == 0 && fsync(u->tree_fd) < 0)
        r = err_sys(err, errno, "sync %s", u->tree);
    return r;
}

static int move_to_dest(struct unpack *u, struct err *err)
{
    if (file_publish_new(u->tree, u->dest, err) < 0)
        return -(int)err->code;
    u->done = true;
    return dir_sync(u->staging, err);
}

int unpack_finish(struct unpack *u, struct err *err)
{
    int r = 0;

    if (unpack_needed_count(u) > 0)
        return err_set(err, ERR_AGAIN, "%zu of %zu segments are missing", unpack_needed_count(u),
                       u->m->nsegments);
    if (!u->done) {
        r = unpack_checkpoint(u, err); /* before modes that would forbid writing again */
        if (r == 0)
            r = seal(u, err);
        if (r == 0)
            r = move_to_dest(u, err);
    }
    if (r == 0)
        r = dir_remove(u->staging, err);
    return r < 0 ? err_wrap(err, "finish %s", u->dest) : 0;
}
