#include "store/publish_delta.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/decode.h"
#include "delta/encode.h"
#include "delta/related.h"
#include "io/files.h"
#include "store/crew.h"
#include "store/pack_check.h"
#include "store/pack_files.h"
#include "store/publish.h"

enum { KEPT = 24, KEPT_TO_VERIFY = 8 }; /* segments a side */

struct side {
    const struct delta_side *names;
    struct manifest *m;
    struct pack_files *reader;
    const struct delta_publish_options *o; /* may stop it at each read; NULL: nothing does */
    struct delta_files files;
};

struct making {
    struct store *store;
    const struct delta_publish_options *o;
    struct side base, target;
    char *tmp, *payload_tmp;
    int fd, payload_fd;
    uint64_t at; /* where the next payload goes in its file */
    uint64_t bytes;
    uint64_t most;        /* a pack of more bytes is worth nothing */
    bool too_large;       /* it would be */
    struct costs_top top; /* of one that was made: what its bytes go to */
};

/* Progress is told segment by segment, and a window takes long to match: whoever stops it should not
 * have to wait for that. */
static int side_read(void *ctx, size_t entry, void *data, size_t len, uint64_t offset,
                     struct err *err)
{
    const struct side *side = ctx;

    if (side->o != NULL && side->o->progress != NULL &&
        side->o->progress(side->o->ctx, 0, side->m->stream_bytes) < 0)
        return err_set(err, ERR_CANCELLED, "stopped while the delta was made");
    return pack_files_read(side->reader, entry, data, len, offset, err);
}

static int side_open(struct side *side, struct store *s, const struct delta_side *names,
                     size_t kept, struct err *err)
{
    int r = store_get_manifest(s, &names->artifact, &side->m, err);

    side->names = names;
    if (r == 0)
        r = pack_files_open(&side->reader, s, side->m, &names->artifact, &names->pack, kept, err);
    side->files = (struct delta_files){ side_read, side };
    return r;
}

static void side_close(struct side *side)
{
    pack_files_close(side->reader);
    manifest_free(side->m);
}

static int note(void *ctx, uint64_t done, uint64_t total)
{
    const struct delta_publish_options *o = ((struct making *)ctx)->o;

    return o == NULL || o->progress == NULL ? 0 : o->progress(o->ctx, done, total);
}

static int emit(void *ctx, const void *data, size_t len, struct err *err)
{
    struct making *m = ctx;
    int r;

    m->too_large = m->at + len > m->most;
    if (m->too_large)
        return err_set(err, ERR_LIMIT, "it would be too large");
    r = fd_write_at(m->payload_fd, data, len, m->at, err);

    m->at += len;
    return r < 0 ? err_wrap(err, "write %s", m->payload_tmp) : 0;
}

/* The payloads stand behind the head, whose size is known only now. */
static int put_together(struct making *m, const struct buf *head, struct err *err)
{
    unsigned char *buffer = mem_alloc(SEGMENT_BYTES);
    int r = fd_write_at(m->fd, head->data, head->len, 0, err);

    for (uint64_t at = 0; r == 0 && at < m->at;) {
        size_t n = m->at - at < SEGMENT_BYTES ? (size_t)(m->at - at) : SEGMENT_BYTES;

        r = fd_read_at(m->payload_fd, buffer, n, at, err);
        if (r == 0)
            r = fd_write_at(m->fd, buffer, n, head->len + at, err);
        at += n;
    }
    free(buffer);
    m->bytes = head->len + m->at;
    return r;
}

static int encode(struct making *m, struct err *err)
{
    unsigned threads = m->o == NULL || m->o->threads == 0 ? 1 : m->o->threads;
    int level = m->o == NULL || m->o->level == 0 ? DELTA_LEVEL : m->o->level;
    struct delta_pool pool = { threads > CREW_MAX ? CREW_MAX : threads, crew_each, &pool };
    struct delta_encode_options o = { .base = m->base.m,
                                      .target = m->target.m,
                                      .base_id = m->base.names->artifact,
                                      .target_id = m->target.names->artifact,
                                      .base_files = &m->base.files,
                                      .target_files = &m->target.files,
                                      .level = level,
                                      .pool = &pool,
                                      .emit = emit,
                                      .progress = note,
                                      .ctx = m };
    struct delta_stats stats = { .covers = 0 };
    AUTO_BUF head = BUF_INIT;
    int r = store_temp(m->store, &m->payload_tmp, &m->payload_fd, err);

    if (r == 0)
        r = store_temp(m->store, &m->tmp, &m->fd, err);
    if (r == 0)
        r = delta_encode(&o, &head, &stats, err);
    m->top = stats.top;
    m->too_large = m->too_large || (r == 0 && head.len + m->at > m->most);
    if (m->too_large)
        return 0;
    return r < 0 ? r : put_together(m, &head, err);
}

struct decoding {
    const struct side *base;
    const struct manifest *target;
    const struct hash *target_id;
    uint64_t bytes;
    pack_read_at read;
    void *ctx;
};

static int decode_all(const struct decoding *d, struct making *progress, struct err *err)
{
    struct delta *delta = NULL;
    struct delta_decoder *decoder = NULL;
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    int r = delta_read(&delta, d->read, d->ctx, d->bytes, d->base->m, &d->base->names->artifact,
                       d->target, d->target_id, err);

    if (r == 0) {
        struct delta_decoder_options o = { delta,           d->base->m, d->target,
                                           &d->base->files, d->read,    d->ctx };

        decoder = delta_decoder_new(&o);
    }
    for (size_t i = 0; r == 0 && i < d->target->nsegments; i++) {
        r = delta->segments[i].encoding == SEGMENT_COPY ? delta_check_copy(decoder, i, err)
                                                        : delta_read_segment(decoder, i, out, err);
        if (r == 0 && progress != NULL && note(progress, i + 1, d->target->nsegments) < 0)
            r = err_set(err, ERR_CANCELLED, "stopped while it was tested");
    }
    delta_decoder_free(decoder);
    delta_free(delta);
    free(out);
    return r;
}

static int read_temp(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct making *m = ctx;

    return fd_read_at(m->fd, data, len, offset, err);
}

static int test_apply(struct making *m, struct err *err)
{
    struct decoding d = {
        &m->base, m->target.m, &m->target.names->artifact, m->bytes, read_temp, m
    };
    int r = decode_all(&d, m, err);

    return r < 0 ? err_wrap(err, "test of the new pack") : 0;
}

static int put(struct making *m, struct published_delta *ret, struct err *err)
{
    AUTO_BUF index = BUF_INIT;
    int r = pack_index_make(&index, PACK_DELTA, &m->base.names->artifact,
                            &m->target.names->artifact, m->bytes, read_temp, m, err);

    if (r < 0)
        return r;
    ret->pack = sha256_of(index.data, index.len);
    r = store_put_file(m->store, OBJECT_PACK, &ret->pack, m->tmp, err);
    return r < 0 ? r : store_put(m->store, OBJECT_INDEX, index.data, index.len, NULL, err);
}

/* --- why a delta does not help more --- */

static int by_digest(const void *a, const void *b)
{
    return hash_compare(a, b);
}

/* The digests of the base's files, sorted. */
static struct hash *digests_of(const struct manifest *m, size_t *ret_count)
{
    struct hash *all = mem_calloc(m->nentries + 1, sizeof(*all));
    size_t n = 0;

    for (size_t i = 0; i < m->nentries; i++) {
        if (m->entries[i].kind == ENTRY_FILE)
            all[n++] = m->entries[i].hash;
    }
    qsort(all, n, sizeof(*all), by_digest);
    *ret_count = n;
    return all;
}

void published_delta_release(struct published_delta *p)
{
    for (size_t i = 0; i < p->nnamed; i++)
        free(p->packed[i].path);
    p->nnamed = 0;
}

/* Keeps the largest. */
static void name(struct published_delta *ret, const struct entry *e, const struct packed *kind)
{
    size_t at = ret->nnamed;

    ret->npacked++;
    ret->packed_bytes += e->size;
    while (at > 0 && ret->packed[at - 1].bytes < e->size)
        at--;
    if (at == PUBLISH_DELTA_NAMED)
        return;
    if (ret->nnamed == PUBLISH_DELTA_NAMED)
        free(ret->packed[--ret->nnamed].path);
    memmove(&ret->packed[at + 1], &ret->packed[at], (ret->nnamed - at) * sizeof(ret->packed[0]));
    ret->packed[at] = (struct packed_file){ mem_strdup(e->path), e->size, kind };
    ret->nnamed++;
}

/* Those that cost bytes of the pack: one in which little changed does not. */
static void name_costly(const struct making *m, struct published_delta *ret)
{
    for (size_t i = 0; i < m->top.count; i++) {
        const struct cost *c = &m->top.items[i];

        if (c->reason == COST_PACKED && c->bytes >= COSTS_PACKED_LEAST)
            name(ret, &m->target.m->entries[c->entry], c->packed);
    }
    if (ret->npacked < m->top.packed)
        ret->npacked = m->top.packed;
}

/* All that changed. */
static void name_packed(struct making *m, struct published_delta *ret)
{
    size_t nbase;
    struct hash *base = digests_of(m->base.m, &nbase);

    for (size_t i = 0; i < m->target.m->nentries; i++) {
        const struct entry *e = &m->target.m->entries[i];

        const struct packed *kind;

        if (e->kind != ENTRY_FILE || e->size < PUBLISH_DELTA_PACKED_MIN ||
            bsearch(&e->hash, base, nbase, sizeof(*base), by_digest) != NULL)
            continue;
        if (packed_find(&m->target.files, i, e->size, &kind) == 0 && kind != NULL)
            name(ret, e, kind);
    }
    free(base);
}

/* Bytes that only look compressed are named if the delta has them: it is as large as they are. What says
 * itself that it is compressed is named in any case: uncompressed it would cost less. */
static void drop_helped(struct published_delta *ret, uint64_t delta_bytes)
{
    size_t kept = 0;

    for (size_t i = 0; i < ret->nnamed; i++) {
        struct packed_file *f = &ret->packed[i];

        if (packed_announces(f->kind) || f->bytes <= delta_bytes) {
            ret->packed[kept++] = *f;
            continue;
        }
        ret->npacked--;
        ret->packed_bytes -= f->bytes;
        free(f->path);
    }
    ret->nnamed = kept;
}

static int full_bytes(struct store *s, const struct hash *pack, uint64_t *ret, struct err *err)
{
    struct pack_index *x = NULL;
    int r = store_get_index(s, pack, &x, err);

    if (r == 0)
        *ret = x->bytes;
    pack_index_free(x);
    return r;
}

static void release(struct making *m)
{
    if (m->fd >= 0)
        close(m->fd);
    if (m->payload_fd >= 0)
        close(m->payload_fd);
    if (m->payload_tmp != NULL)
        unlink(m->payload_tmp);
    if (m->tmp != NULL)
        unlink(m->tmp);
    free(m->tmp);
    free(m->payload_tmp);
    side_close(&m->base);
    side_close(&m->target);
}

/* Looks for what they have in common, then makes the delta and tests it. */
static int make(struct making *m, enum delta_dropped *ret_dropped, struct err *err)
{
    struct related related;
    int r = related_find(m->base.m, &m->base.files, m->target.m, &m->target.files, &related, err);

    if (r == 0 && related_is_hopeless(&related, m->target.m)) {
        *ret_dropped = DELTA_UNRELATED;
        return 0;
    }
    if (r == 0)
        r = encode(m, err);
    if (r == 0 && m->too_large)
        *ret_dropped = DELTA_TOO_LARGE;
    else if (r == 0)
        r = test_apply(m, err);
    return r;
}

int artifact_publish_delta(struct store *s, const struct delta_side *base,
                           const struct delta_side *target,
                           const struct delta_publish_options *options, struct published_delta *ret,
                           struct err *err)
{
    struct making m = { .store = s,
                        .o = options,
                        .base = { .o = options },
                        .target = { .o = options },
                        .fd = -1,
                        .payload_fd = -1 };
    struct published_delta out = { .dropped = DELTA_KEPT };
    int r = side_open(&m.base, s, base, KEPT, err);

    if (r == 0)
        r = side_open(&m.target, s, target, KEPT, err);
    if (r == 0)
        r = full_bytes(s, &target->pack, &out.full_bytes, err);
    m.most = out.full_bytes / 100 * PUBLISH_DELTA_SHARE;
    if (r == 0)
        r = make(&m, &out.dropped, err);
    if (r == 0 && out.dropped != DELTA_KEPT)
        name_packed(&m, &out);
    else if (r == 0)
        name_costly(&m, &out);
    if (r == 0 && out.dropped == DELTA_KEPT) {
        out.pack_bytes = m.bytes;
        drop_helped(&out, m.bytes);
        r = put(&m, &out, err);
    }
    release(&m);
    if (r < 0) {
        published_delta_release(&out);
        return err_wrap(err, "delta");
    }
    *ret = out;
    return 0;
}

/* --- verifying --- */

static int check_leaves(struct store_object *o, const struct pack_index *x, struct err *err)
{
    if (store_object_bytes(o) != x->bytes)
        return err_set(err, ERR_CORRUPT, "pack of %llu bytes, its index says %llu",
                       (unsigned long long)store_object_bytes(o), (unsigned long long)x->bytes);
    return pack_check_leaves(x, store_object_read, o, err);
}

static int verify(struct store *s, const struct side *base, const struct hash *target,
                  const struct hash *pack, const struct pack_index *x, struct err *err)
{
    struct manifest *m = NULL;
    struct store_object *o = NULL;
    int r = store_get_manifest(s, target, &m, err);

    if (r == 0)
        r = store_open_object(s, OBJECT_PACK, pack, &o, err);
    if (r == 0)
        r = check_leaves(o, x, err);
    if (r == 0) {
        struct decoding d = { base, m, target, x->bytes, store_object_read, o };

        r = decode_all(&d, NULL, err);
    }
    store_object_close(o);
    manifest_free(m);
    return r;
}

int artifact_verify_delta(struct store *s, const struct delta_side *base, const struct hash *target,
                          const struct hash *pack, uint64_t *ret_bytes, struct err *err)
{
    struct side side = { .m = NULL };
    struct pack_index *x = NULL;
    char hex[HASH_HEX];
    int r = store_get_index(s, pack, &x, err);

    if (r == 0 && (x->kind != PACK_DELTA || !hash_equal(&x->base, &base->artifact) ||
                   !hash_equal(&x->target, target)))
        r = err_set(err, ERR_INVALID, "it is not the delta between these artifacts");
    if (r == 0)
        r = side_open(&side, s, base, KEPT_TO_VERIFY, err);
    if (r == 0)
        r = verify(s, &side, target, pack, x, err);
    if (r == 0)
        *ret_bytes = x->bytes;
    pack_index_free(x);
    side_close(&side);
    return r < 0 ? err_wrap(err, "verify delta pack %.16s", hash_hex(pack, hex)) : 0;
}
