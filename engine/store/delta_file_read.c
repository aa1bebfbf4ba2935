#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/mem.h"
#include "delta/delta.h"
#include "io/files.h"
#include "store/delta_file_internal.h"
#include "store/pack_costs.h"

enum {
    CHUNK_BYTES = 1 << 20,
    /* Bytes of manifests for each byte of their frame, and besides. Each path differs from the one before, which
     * takes zstd more than a byte for some 1100 of an entry, on both sides together; the digests of segments that
     * are not needed are zeros, 4 MiB at most. */
    MANIFEST_RATIO = 2048,
    MANIFEST_FREE = 16 << 20,
};

uint64_t delta_count_files(const struct manifest *m)
{
    uint64_t files = 0;

    for (size_t i = 0; i < m->nentries; i++)
        files += m->entries[i].kind == ENTRY_FILE;
    return files;
}

int delta_file_digest(int fd, uint64_t bytes, struct hash *ret, struct err *err)
{
    unsigned char *data = mem_alloc(CHUNK_BYTES);
    struct sha256 *sha = sha256_new();
    uint64_t at = 0;
    int r = 0;

    while (r == 0 && at < bytes) {
        uint64_t end = at < DELTA_FILE_DIGEST_AT ? DELTA_FILE_DIGEST_AT : bytes;
        size_t n = end - at < CHUNK_BYTES ? (size_t)(end - at) : CHUNK_BYTES;

        r = fd_read_at(fd, data, n, at, err);
        sha256_add(sha, data, n);
        at += n;
        if (at == DELTA_FILE_DIGEST_AT)
            at = DELTA_FILE_HEAD_BYTES;
    }
    *ret = sha256_done(sha);
    sha256_free(sha);
    free(data);
    return r;
}

static int check_digest(const struct delta_opened *o, const unsigned char *said, struct err *err)
{
    struct hash h;
    int r = delta_file_digest(o->fd, o->info.file_bytes, &h, err);

    if (r == 0 && memcmp(h.b, said, HASH_BYTES) != 0)
        r = err_set(err, ERR_CORRUPT,
                    "is damaged, or was cut: its SHA-256 is not what its head says");
    return r;
}

int delta_opened_read(void *opened, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct delta_opened *o = opened;

    return fd_read_at(o->fd, data, len, o->start + offset, err);
}

static uint64_t number(const unsigned char *b, size_t width)
{
    uint64_t v = 0;

    for (size_t i = 0; i < width; i++)
        v |= (uint64_t)b[i] << (8 * i);
    return v;
}

/* The two manifests in their frame. */
struct frame {
    uint64_t target, base; /* bytes, raw */
    uint64_t len;
};

static int check_frame(const struct delta_opened *o, const struct frame *f, struct err *err)
{
    if (f->len > o->info.file_bytes - DELTA_FILE_HEAD_BYTES || f->target > MANIFEST_MAX_BYTES ||
        f->base > MANIFEST_MAX_BYTES || f->len == 0)
        return err_set(err, ERR_INVALID, "its manifest ends behind it: it was cut, or is damaged");
    if (f->target + f->base > MANIFEST_FREE + f->len * MANIFEST_RATIO)
        return err_set(err, ERR_LIMIT, "a frame of %llu bytes cannot hold manifests of %llu",
                       (unsigned long long)f->len, (unsigned long long)(f->target + f->base));
    if (f->len > ZSTD_compressBound((size_t)(f->target + f->base)))
        return err_set(err, ERR_INVALID, "a frame of %llu bytes for a manifest of %llu",
                       (unsigned long long)f->len, (unsigned long long)(f->target + f->base));
    return 0;
}

static int open_manifests(struct delta_opened *o, const struct frame *f, struct err *err)
{
    size_t raw = (size_t)(f->target + f->base), len = (size_t)f->len;
    unsigned char *frame, *manifests;
    int r = check_frame(o, f, err);

    if (r < 0)
        return r;
    frame = mem_alloc(len);
    r = fd_read_at(o->fd, frame, len, DELTA_FILE_HEAD_BYTES, err);
    if (r == 0 && ZSTD_getFrameContentSize(frame, len) != raw)
        r = err_set(err, ERR_INVALID, "its manifest is not %zu bytes", raw);
    manifests = mem_alloc(r == 0 ? raw + 1 : 1);
    if (r == 0 && ZSTD_decompress(manifests, raw, frame, len) != raw)
        r = err_set(err, ERR_INVALID, "its manifest does not decompress");
    free(frame);
    /* The last is parsed first, so that its bytes can go: together they may be many. */
    if (r == 0 && f->base > 0)
        r = manifest_parse(&o->base, manifests + f->target, (size_t)f->base, err);
    manifests = mem_realloc(manifests, r == 0 ? (size_t)f->target + 1 : 1);
    if (r == 0)
        r = manifest_parse(&o->m, manifests, (size_t)f->target, err);
    if (r == 0)
        o->info.target = sha256_of(manifests, (size_t)f->target); /* of a full pack */
    free(manifests);
    return r;
}

/* What the pack says of itself. */
static int open_pack(struct delta_opened *o, struct err *err)
{
    unsigned char b[DELTA_HEAD_BYTES];
    int r;

    if (o->info.pack_bytes < full_header_bytes(0))
        return err_set(err, ERR_INVALID, "ends behind its manifest: it was cut");
    r = fd_read_at(o->fd, b, 5, o->start, err);
    if (r < 0)
        return r;
    o->info.kind = b[4] == PACK_DELTA ? PACK_DELTA : PACK_FULL;
    if ((o->info.kind == PACK_DELTA) != (o->base != NULL))
        return err_set(err, ERR_INVALID, "has %s",
                       o->base == NULL ? "a delta without its base's manifest"
                                       : "a full pack that has a base");
    if (o->info.kind == PACK_FULL)
        return 0;
    if (o->info.pack_bytes < sizeof(b))
        return err_set(err, ERR_INVALID, "ends behind its manifest: it was cut");
    r = fd_read_at(o->fd, b, sizeof(b), o->start, err);
    memcpy(o->info.base.b, b + 5, HASH_BYTES);
    memcpy(o->info.target.b, b + 5 + HASH_BYTES, HASH_BYTES);
    return r;
}

static int open_file(struct delta_opened *o, const char *path, struct err *err)
{
    unsigned char b[DELTA_FILE_HEAD_BYTES];
    struct frame frame;
    struct stat st;
    int r;

    o->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (o->fd < 0 || fstat(o->fd, &st) < 0)
        return err_sys(err, errno, "cannot be opened");
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "is no file");
    o->info.file_bytes = (uint64_t)st.st_size;
    if (o->info.file_bytes < sizeof(b))
        return err_set(err, ERR_INVALID, "ends after %llu bytes: it was cut",
                       (unsigned long long)o->info.file_bytes);
    r = fd_read_at(o->fd, b, sizeof(b), 0, err);
    if (r == 0 && (memcmp(b, "SLB2", 4) != 0 || (b[4] != 'f' && b[4] != 'd')))
        r = err_set(err, ERR_INVALID, "was not made by this version of `engine delta make`");
    if (r == 0)
        r = check_digest(o, b + DELTA_FILE_DIGEST_AT, err);
    o->info.tree = b[4] == 'd';
    frame = (struct frame){ number(b + 5, 8), number(b + 13, 8), number(b + 21, 8) };
    o->start = DELTA_FILE_HEAD_BYTES + frame.len;
    if (r == 0)
        r = open_manifests(o, &frame, err);
    if (r < 0)
        return r;
    o->info.pack_bytes = o->info.file_bytes - o->start;
    o->info.files = delta_count_files(o->m);
    o->info.stream_bytes = o->m->stream_bytes;
    o->info.segments = o->m->nsegments;
    return open_pack(o, err);
}

int delta_opened_open(struct delta_opened *o, const char *path, struct err *err)
{
    return open_file(o, path, err) < 0 ? err_wrap(err, "PACK %s", path) : 0;
}

void delta_opened_close(struct delta_opened *o)
{
    if (o->fd >= 0)
        close(o->fd);
    manifest_free(o->m);
    manifest_free(o->base);
}

void delta_file_costs_init(struct delta_file_costs *c, const struct costs_top *top,
                           const struct manifest *m)
{
    *c = (struct delta_file_costs){ .count = top->count, .packed = top->packed };
    for (size_t i = 0; i < top->count; i++) {
        const struct entry *e = &m->entries[top->items[i].entry];

        c->items[i] = (struct delta_file_cost){ mem_strdup(e->path), e->size, top->items[i] };
    }
}

void delta_file_costs_release(struct delta_file_costs *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->items[i].path);
    c->count = 0;
}

int delta_file_info(const char *path, struct delta_file_info *info, struct err *err)
{
    struct delta_opened o = { .fd = -1 };
    int r = delta_opened_open(&o, path, err);

    *info = o.info;
    delta_opened_close(&o);
    return r;
}

int delta_file_report(const char *path, struct delta_file_info *info, struct delta_stats *stats,
                      struct delta_file_costs *costs, struct err *err)
{
    struct delta_opened o = { .fd = -1 };
    int r = delta_opened_open(&o, path, err);

    *info = o.info;
    if (r == 0) {
        struct pack_description d = { .kind = o.info.kind,
                                      .bytes = o.info.pack_bytes,
                                      .read = delta_opened_read,
                                      .ctx = &o,
                                      .target = o.m,
                                      .target_id = o.info.target,
                                      .base_id = o.info.base };

        r = pack_costs(stats, &d, err);
        if (r < 0)
            r = err_wrap(err, "PACK %s", path);
    }
    if (r == 0)
        delta_file_costs_init(costs, &stats->top, o.m);
    delta_opened_close(&o);
    return r;
}
