#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "delta/delta.h"
#include "store/delta_file_internal.h"

enum { MANIFEST_LEVEL = 9, NEAR_LOG = 20, FAR_LOG = 30 }; /* logs: of zstd's window */

/* The manifest with the digests that are left when `needless` has taken those of segments. */
static void add_manifest(struct buf *out, const struct manifest *m,
                         bool (*needless)(const struct delta *d, size_t i), const struct delta *d)
{
    struct manifest shown = *m;

    shown.segments = mem_calloc(m->nsegments + 1, sizeof(*shown.segments));
    for (size_t i = 0; i < m->nsegments; i++) {
        if (!needless(d, i))
            shown.segments[i] = m->segments[i];
    }
    manifest_encode(out, &shown);
    free(shown.segments);
}

static bool is_copy(const struct delta *d, size_t i)
{
    return d != NULL && d->segments[i].encoding == SEGMENT_COPY;
}

static bool is_any(const struct delta *d, size_t i)
{
    (void)d;
    (void)i;
    return true;
}

/* Appends one frame. What two manifests have in common may lie far apart. */
static int compress(struct buf *out, const struct buf *raw, struct err *err)
{
    size_t bound = ZSTD_compressBound(raw->len), size;
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    int window = NEAR_LOG;

    while (window < FAR_LOG && ((size_t)1 << window) < raw->len)
        window++;
    if (zstd == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, MANIFEST_LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, window)) ||
        ZSTD_isError(
            ZSTD_CCtx_setParameter(zstd, ZSTD_c_enableLongDistanceMatching, window > NEAR_LOG)))
        abort();
    buf_reserve(out, bound);
    size = ZSTD_compress2(zstd, out->data + out->len, bound, raw->data, raw->len);
    ZSTD_freeCCtx(zstd);
    if (ZSTD_isError(size))
        return err_set(err, ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(size));
    out->len += size;
    return 0;
}

static void put_number(char *at, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        at[i] = (char)(unsigned char)(v >> (8 * i));
}

int delta_file_head(struct buf *out, bool tree, const struct manifest *target,
                    const struct manifest *base, const struct delta *d, struct err *err)
{
    AUTO_BUF raw = BUF_INIT;
    size_t target_bytes;

    add_manifest(&raw, target, is_copy, d);
    target_bytes = raw.len;
    if (d != NULL)
        add_manifest(&raw, base, is_any, d);
    buf_reserve(out, DELTA_FILE_HEAD_BYTES);
    memset(out->data, 0, DELTA_FILE_HEAD_BYTES);
    out->len = DELTA_FILE_HEAD_BYTES;
    if (compress(out, &raw, err) < 0)
        return -(int)err->code;
    memcpy(out->data, "SLB2", 4);
    out->data[4] = tree ? 'd' : 'f';
    put_number(out->data + 5, target_bytes);
    put_number(out->data + 13, raw.len - target_bytes);
    put_number(out->data + 21, out->len - DELTA_FILE_HEAD_BYTES);
    return 0;
}
