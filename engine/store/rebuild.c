#include "store/rebuild.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/decode.h"
#include "io/files.h"
#include "store/export.h"
#include "store/pack_check.h"
#include "store/publish.h"
#include "store/publish_delta.h"
#include "store/tree_files.h"

struct rebuild {
    struct store *store;
    const struct catalog *catalog;
    const struct manifest *m;
    const char *work;
    struct full_encoder *encoder;
    char *tmp; /* the pack in the making */
    int fd;
};

static int write_pack(void *ctx, const void *data, size_t len, uint64_t offset, struct err *err)
{
    return fd_write_at(((const struct rebuild *)ctx)->fd, data, len, offset, err);
}

static int read_pack(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    return fd_read_at(((const struct rebuild *)ctx)->fd, data, len, offset, err);
}

static int take_segment(void *ctx, size_t i, const void *data, size_t len, struct err *err)
{
    (void)i;
    return full_encoder_add(((const struct rebuild *)ctx)->encoder, data, len, err);
}

static int from_full(struct rebuild *b, const struct catalog_pack *p, struct store_object *o,
                     struct err *err)
{
    return pack_check_segments(b->m, &p->target, store_object_bytes(o), store_object_read, o,
                               take_segment, b, err);
}

static int decode_delta(struct rebuild *b, const struct catalog_pack *p, struct store_object *o,
                        const struct manifest *base, const struct delta_files *files,
                        struct err *err)
{
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    struct delta_decoder *decoder = NULL;
    struct delta *d = NULL;
    int r = delta_read(&d, store_object_read, o, store_object_bytes(o), base, &p->base, b->m,
                       &p->target, err);

    if (r == 0) {
        struct delta_decoder_options options = { .delta = d,
                                                 .base = base,
                                                 .target = b->m,
                                                 .files = files,
                                                 .read = store_object_read,
                                                 .ctx = o };

        decoder = delta_decoder_new(&options);
    }
    for (size_t i = 0; r == 0 && i < b->m->nsegments; i++) {
        r = delta_read_segment(decoder, i, out, err);
        if (r == 0)
            r = take_segment(b, i, out, manifest_segment_bytes(b->m, i), err);
    }
    if (decoder != NULL)
        delta_decoder_free(decoder);
    delta_free(d);
    free(out);
    return r;
}

/* The base is laid out as a tree for as long as it takes. */
static int from_delta(struct rebuild *b, const struct catalog_pack *p, struct store_object *o,
                      struct err *err)
{
    const struct catalog_artifact *base = catalog_get(b->catalog, &p->base);
    AUTO_FREE char *dir = mem_printf("%s/base", b->work);
    struct delta_files files = { tree_files_read, NULL };
    struct tree_files *reader = NULL;
    struct manifest *m = NULL;
    int r;

    if (base == NULL)
        return err_set(err, ERR_NOT_FOUND, "the base of its delta is not in the store");
    r = dir_remove(dir, err);
    if (r == 0)
        r = store_get_manifest(b->store, &p->base, &m, err);
    if (r == 0)
        r = artifact_export(b->store, base, dir, err);
    if (r == 0)
        r = tree_files_open(&reader, dir, m, err);
    files.ctx = reader;
    if (r == 0)
        r = decode_delta(b, p, o, m, &files, err);
    if (reader != NULL)
        tree_files_close(reader);
    manifest_free(m);
    (void)!dir_remove(dir, NULL);
    return r;
}

static int put_if_it_is(struct rebuild *b, const struct catalog_artifact *a,
                        const struct hash *pack, struct err *err)
{
    struct hash none = { { 0 } }, made;
    AUTO_BUF index = BUF_INIT;
    uint64_t bytes = 0;
    int r = full_encoder_finish(b->encoder, &a->hash, &bytes, err);

    if (r == 0)
        r = pack_index_make(&index, PACK_FULL, &none, &a->hash, bytes, read_pack, b, err);
    if (r < 0)
        return r;
    made = sha256_of(index.data, index.len);
    if (!hash_equal(&made, pack))
        return err_set(err, ERR_CONFLICT, "encoded again, it has another name");
    r = store_put_file(b->store, OBJECT_PACK, pack, b->tmp, err);
    return r < 0 ? r : store_put(b->store, OBJECT_INDEX, index.data, index.len, NULL, err);
}

static int rebuild_from(struct rebuild *b, const struct catalog_artifact *a,
                        const struct catalog_pack *p, const struct hash *pack, struct err *err)
{
    struct store_object *o = NULL;
    int r = store_open_object(b->store, OBJECT_PACK, &p->hash, &o, err);

    if (r == 0)
        r = store_temp(b->store, &b->tmp, &b->fd, err);
    if (r == 0)
        r = full_encoder_new(&b->encoder, b->m->nsegments, FULL_LEVEL, write_pack, b, err);
    if (r == 0)
        r = p->kind == PACK_FULL ? from_full(b, p, o, err) : from_delta(b, p, o, err);
    if (r == 0)
        r = put_if_it_is(b, a, pack, err);
    full_encoder_free(b->encoder);
    b->encoder = NULL;
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
    if (b->tmp != NULL && r < 0)
        unlink(b->tmp);
    free(b->tmp);
    b->tmp = NULL;
    store_object_close(o);
    return r;
}

int pack_rebuild(struct store *s, const struct catalog *c, const struct catalog_artifact *a,
                 const struct hash *pack, const char *work, struct err *err)
{
    struct rebuild b = { .store = s, .catalog = c, .work = work, .fd = -1 };
    struct manifest *m = NULL;
    int r = dir_make(work, 0700, err);

    if (r == 0)
        r = store_get_manifest(s, &a->hash, &m, err);
    if (r < 0)
        return r;
    b.m = m;
    r = err_set(err, ERR_NOT_FOUND, "the store has no other pack of the artifact");
    for (size_t i = 0; r < 0 && i < a->npacks; i++) {
        if (a->packs[i].present && !hash_equal(&a->packs[i].hash, pack))
            r = rebuild_from(&b, a, &a->packs[i], pack, err);
    }
    manifest_free(m);
    return r;
}

static int full_side(const struct catalog *c, const struct hash *artifact, struct delta_side *ret,
                     struct err *err)
{
    const struct catalog_artifact *a = catalog_get(c, artifact);
    char hex[HASH_HEX];

    for (size_t i = 0; a != NULL && i < a->npacks; i++) {
        if (a->packs[i].kind == PACK_FULL && a->packs[i].present) {
            *ret = (struct delta_side){ *artifact, a->packs[i].hash };
            return 0;
        }
    }
    return err_set(err, ERR_NOT_FOUND, "there is no full pack of artifact %.12s",
                   hash_hex(artifact, hex));
}

static bool is_known(const struct catalog *c, const struct hash *pack)
{
    for (size_t i = 0; i < c->npacks; i++) {
        if (hash_equal(&c->packs[i].hash, pack))
            return true;
    }
    return false;
}

static int take_away(struct store *s, const struct catalog *c, const struct hash *pack,
                     struct err *err)
{
    int r = 0;

    if (!hash_is_zero(pack) && !is_known(c, pack)) {
        r = store_delete(s, OBJECT_INDEX, pack, err);
        if (r == 0)
            r = store_delete(s, OBJECT_PACK, pack, err);
    }
    return r < 0 ? r : err_set(err, ERR_CONFLICT, "made again, it has another name");
}

int delta_rebuild(struct store *s, const struct catalog *c, const struct catalog_pack *p,
                  struct err *err)
{
    struct delta_side base, target;
    struct published_delta made;
    int r = full_side(c, &p->base, &base, err);

    if (r == 0)
        r = full_side(c, &p->target, &target, err);
    if (r == 0)
        r = artifact_publish_delta(s, &base, &target, NULL, &made, err);
    if (r < 0)
        return r;
    published_delta_release(&made);
    return hash_equal(&made.pack, &p->hash) ? 0 : take_away(s, c, &made.pack, err);
}

int pack_reindex(struct store *s, const struct hash *artifact, const struct hash *pack,
                 struct err *err)
{
    struct hash none = { { 0 } }, name;
    struct store_object *o = NULL;
    AUTO_BUF index = BUF_INIT;
    int r = store_open_object(s, OBJECT_PACK, pack, &o, err);

    if (r == 0)
        r = pack_index_make(&index, PACK_FULL, &none, artifact, store_object_bytes(o),
                            store_object_read, o, err);
    store_object_close(o);
    if (r < 0)
        return r;
    name = sha256_of(index.data, index.len);
    if (!hash_equal(&name, pack))
        return err_set(err, ERR_CONFLICT, "its bytes are not what its name says");
    return store_put(s, OBJECT_INDEX, index.data, index.len, NULL, err);
}
