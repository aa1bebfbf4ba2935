#include "store/export.h"

#include <stdlib.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/pack_check.h"
#include "store/publish.h"
#include "store/unpack.h"

static int write_segment(void *unpack, size_t i, const void *data, size_t len, struct err *err)
{
    return unpack_checked(unpack, i, data, len, err); /* the decoder has compared its digest */
}

static int unpack_from(struct store *s, const struct catalog_pack *p, const struct manifest *m,
                       struct unpack *u, struct err *err)
{
    struct store_object *o = NULL;
    int r = store_open_object(s, OBJECT_PACK, &p->hash, &o, err);

    if (r == 0)
        r = pack_check_segments(m, &p->target, store_object_bytes(o), store_object_read, o,
                                write_segment, u, err);
    store_object_close(o);
    return r;
}

/* A segment that one pack does not hold as it should is taken from the next one. */
static int unpack_all(struct store *s, const struct catalog_artifact *a, const struct manifest *m,
                      struct unpack *u, struct err *err)
{
    int r = err_set(err, ERR_NOT_FOUND, "the store has no full pack of it");

    for (size_t i = 0; r < 0 && i < a->npacks; i++) {
        if (a->packs[i].kind == PACK_FULL && a->packs[i].present)
            r = unpack_from(s, &a->packs[i], m, u, err);
    }
    return r;
}

int artifact_export(struct store *s, const struct catalog_artifact *a, const char *dest,
                    struct err *err)
{
    AUTO_FREE char *staging = mem_printf("%s.part", dest);
    struct unpack_options o = { .staging = staging, .dest = dest, .artifact = a->hash };
    struct manifest *m = NULL;
    struct unpack *u = NULL;
    char hex[HASH_HEX];
    int r;

    if (path_exists(dest))
        return err_set(err, ERR_EXISTS, "%s is there already", dest);
    r = store_get_manifest(s, &a->hash, &m, err);
    o.manifest = m;
    if (r == 0)
        r = unpack_open(&u, &o, err);
    if (r == 0)
        r = unpack_all(s, a, m, u, err);
    if (r == 0)
        r = unpack_finish(u, err);
    unpack_close(u);
    manifest_free(m);
    return r < 0 ? err_wrap(err, "export %.12s to %s", hash_hex(&a->hash, hex), dest) : 0;
}
