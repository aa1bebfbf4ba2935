#include "store/publish.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/full.h"
#include "io/files.h"
#include "store/pack_check.h"
#include "store/tree.h"

struct publishing {
    struct store *store;
    const struct publish_options *options;
    struct tree *tree;
    struct full_encoder *encoder;
    char *tmp; /* path of the pack in the making */
    int fd;
    uint64_t done, total; /* of progress */
    struct buf manifest;  /* encoded */
    struct published out;
};

static int step(struct publishing *p, size_t len, struct err *err)
{
    p->done += len;
    if (p->options == NULL || p->options->progress == NULL)
        return 0;
    if (p->options->progress(p->options->ctx, p->done, p->total) < 0)
        return err_set(err, ERR_CANCELLED, "stopped while it was packed");
    return 0;
}

static int write_pack(void *ctx, const void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct publishing *p = ctx;

    return fd_write_at(p->fd, data, len, offset, err) < 0 ? err_wrap(err, "write %s", p->tmp) : 0;
}

static int read_pack(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct publishing *p = ctx;

    return fd_read_at(p->fd, data, len, offset, err) < 0 ? err_wrap(err, "read %s", p->tmp) : 0;
}

static int take_segment(void *ctx, size_t i, const void *data, size_t len, struct err *err)
{
    struct publishing *p = ctx;
    int r = full_encoder_add(p->encoder, data, len, err);

    (void)i;
    return r < 0 ? r : step(p, len, err);
}

static int encode(struct publishing *p, const char *path, struct err *err)
{
    const struct publish_options *o = p->options;
    int level = o == NULL || o->level == 0 ? FULL_LEVEL : o->level;
    const struct manifest *m;
    int r = tree_open(&p->tree, path, err);

    if (r < 0)
        return r;
    m = tree_manifest(p->tree);
    p->total = 2 * m->stream_bytes;
    if (o != NULL && o->max_bytes > 0 && m->stream_bytes > o->max_bytes)
        return err_set(err, ERR_LIMIT, "%s: %llu bytes, at most %llu are allowed", path,
                       (unsigned long long)m->stream_bytes, (unsigned long long)o->max_bytes);
    r = full_encoder_new(&p->encoder, m->nsegments, level, write_pack, p, err);
    if (r == 0)
        r = store_temp(p->store, &p->tmp, &p->fd, err);
    if (r == 0)
        r = tree_read(p->tree, take_segment, p, err);
    if (r < 0)
        return r;
    manifest_encode(&p->manifest, m);
    if (p->manifest.len > MANIFEST_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "%s: its manifest is larger than %d bytes", path,
                       MANIFEST_MAX_BYTES);
    p->out.artifact = sha256_of(p->manifest.data, p->manifest.len);
    p->out.stream_bytes = m->stream_bytes;
    return full_encoder_finish(p->encoder, &p->out.artifact, &p->out.pack_bytes, err);
}

static uint64_t count_files(const struct manifest *m)
{
    uint64_t files = 0;

    for (size_t i = 0; i < m->nentries; i++)
        files += m->entries[i].kind == ENTRY_FILE;
    return files;
}

static int one_more(void *ctx, size_t i, const void *data, size_t len, struct err *err)
{
    (void)i;
    (void)data;
    return step(ctx, len, err);
}

/* The decoder must accept what we wrote, from the manifest as others will read it. */
static int test_apply(struct publishing *p, struct err *err)
{
    struct manifest *m = NULL;
    int r = manifest_parse(&m, p->manifest.data, p->manifest.len, err);

    if (r == 0)
        r = pack_check_segments(m, &p->out.artifact, p->out.pack_bytes, read_pack, p, one_more, p,
                                err);
    if (r == 0)
        p->out.files = count_files(m);
    manifest_free(m);
    return r < 0 ? err_wrap(err, "test of the new pack") : 0;
}

static int put_all(struct publishing *p, struct err *err)
{
    AUTO_BUF index = BUF_INIT;
    AUTO_FREE uint64_t *sums = NULL;
    struct hash none = { { 0 } };
    int r = pack_index_make_sums(&index, PACK_FULL, &none, &p->out.artifact, p->out.pack_bytes,
                                 read_pack, p, &sums, err);

    if (r < 0)
        return r;
    p->out.pack = sha256_of(index.data, index.len);
    r = store_put(p->store, OBJECT_MANIFEST, p->manifest.data, p->manifest.len, NULL, err);
    if (r == 0)
        r = store_put_file(p->store, OBJECT_PACK, &p->out.pack, p->tmp, err);
    if (r == 0)
        r = store_put(p->store, OBJECT_INDEX, index.data, index.len, NULL, err);
    if (r == 0 && p->options != NULL && p->options->ret_sums != NULL) {
        *p->options->ret_sums = sums;
        sums = NULL;
    }
    return r;
}

int artifact_publish(struct store *s, const char *path, const struct publish_options *options,
                     struct published *ret, struct err *err)
{
    struct publishing p = { .store = s, .options = options, .fd = -1 };
    int r = encode(&p, path, err);

    if (r == 0)
        r = test_apply(&p, err);
    if (r == 0)
        r = put_all(&p, err);
    if (p.fd >= 0)
        close(p.fd);
    if (r < 0 && p.tmp != NULL)
        unlink(p.tmp);
    free(p.tmp);
    full_encoder_free(p.encoder);
    tree_close(p.tree);
    buf_release(&p.manifest);
    if (r < 0)
        return err_wrap(err, "publish %s", path);
    *ret = p.out;
    return 0;
}

int store_get_manifest(struct store *s, const struct hash *artifact, struct manifest **ret,
                       struct err *err)
{
    AUTO_BUF bytes = BUF_INIT;
    int r = store_get(s, OBJECT_MANIFEST, artifact, &bytes, err);

    return r < 0 ? r : manifest_parse(ret, buf_str(&bytes), bytes.len, err);
}

int store_get_index(struct store *s, const struct hash *pack, struct pack_index **ret,
                    struct err *err)
{
    AUTO_BUF bytes = BUF_INIT;
    int r = store_get(s, OBJECT_INDEX, pack, &bytes, err);

    return r < 0 ? r : pack_index_parse(ret, buf_str(&bytes), bytes.len, err);
}

static int verify_pack(struct store *s, const struct hash *pack, const struct pack_index *x,
                       const struct manifest *m, struct err *err)
{
    struct store_object *o = NULL;
    int r = store_open_object(s, OBJECT_PACK, pack, &o, err);

    if (r == 0 && store_object_bytes(o) != x->bytes)
        r = err_set(err, ERR_CORRUPT, "pack of %llu bytes, its index says %llu",
                    (unsigned long long)store_object_bytes(o), (unsigned long long)x->bytes);
    if (r == 0)
        r = pack_check_leaves(x, store_object_read, o, err);
    if (r == 0)
        r = pack_check_segments(m, &x->target, x->bytes, store_object_read, o, NULL, NULL, err);
    store_object_close(o);
    if (r == -(int)ERR_CORRUPT && store_quarantine(s, OBJECT_PACK, pack, NULL) < 0)
        return err_wrap(err, "could not be moved aside");
    return r;
}

static int verify(struct store *s, const struct hash *artifact, const struct hash *pack,
                  struct published *ret, struct err *err)
{
    struct manifest *m = NULL;
    struct pack_index *x = NULL;
    int r = store_get_manifest(s, artifact, &m, err);

    if (r == 0)
        r = store_get_index(s, pack, &x, err);
    if (r == 0 && (x->kind != PACK_FULL || !hash_equal(&x->target, artifact)))
        r = err_set(err, ERR_INVALID, "is not a full pack of the artifact");
    if (r == 0)
        r = verify_pack(s, pack, x, m, err);
    if (r == 0 && ret != NULL) {
        *ret = (struct published){ .artifact = *artifact,
                                   .pack = *pack,
                                   .stream_bytes = m->stream_bytes,
                                   .pack_bytes = x->bytes,
                                   .files = count_files(m) };
    }
    manifest_free(m);
    pack_index_free(x);
    return r;
}

int artifact_verify(struct store *s, const struct hash *artifact, const struct hash *pack,
                    struct published *ret, struct err *err)
{
    char a[HASH_HEX], p[HASH_HEX];

    if (verify(s, artifact, pack, ret, err) < 0)
        return err_wrap(err, "verify artifact %.16s, pack %.16s", hash_hex(artifact, a),
                        hash_hex(pack, p));
    return 0;
}
