#include "store/export.h"

#include <stdlib.h>

#include "base/mem.h"
#include "io/files.h"
#include "store/pack_check.h"
#include "store/publish.h"
#include "store/side.h"
#include "store/unpack.h"
#include "store/workplace.h"

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

static int make_dest(struct store *s, const struct catalog_artifact *a, struct workplace *w,
                     struct err *err)
{
    struct unpack_options o = {
        .staging = w->staging, .dest = w->out, .artifact = a->hash, .verify_staged = true
    };
    struct manifest *m = NULL;
    struct unpack *u = NULL;
    int r = store_get_manifest(s, &a->hash, &m, err);

    o.manifest = m;
    if (r == 0)
        r = workplace_open(w, err);
    if (r == 0)
        r = unpack_open(&u, &o, err);
    if (r == 0)
        r = unpack_all(s, a, m, u, err);
    if (r == 0)
        r = unpack_finish(u, err);
    unpack_close(u);
    manifest_free(m);
    return r;
}

/* One before us was ended when only its workplace was left to be removed. */
static bool is_made(const struct catalog_artifact *a, const struct workplace *w)
{
    struct side s = { 0 };
    bool made =
        workplace_is_left(w) && side_open(&s, w->out, NULL) == 0 && hash_equal(&s.id, &a->hash);

    side_close(&s);
    return made;
}

int artifact_export(struct store *s, const struct catalog_artifact *a, const char *dest,
                    struct err *err)
{
    struct workplace w;
    char hex[HASH_HEX];
    int r = 0;

    workplace_init(&w, dest);
    if (path_exists(w.out))
        r = is_made(a, &w) ? 0 : err_set(err, ERR_EXISTS, "%s is there already", w.out);
    else
        r = make_dest(s, a, &w, err);
    if (r == 0)
        r = workplace_remove(&w, err);
    workplace_close(&w);
    return r < 0 ? err_wrap(err, "export %.12s to %s", hash_hex(&a->hash, hex), dest) : 0;
}
