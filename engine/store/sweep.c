#include "store/sweep.h"

#include "base/map.h"
#include "base/mem.h"

struct sweep {
    struct store *store;
    const struct sweep_options *o;
    struct map keep;
    struct sweep_result *out;
};

static bool is_kept(const struct sweep *w, const struct hash *name)
{
    char hex[HASH_HEX];

    return map_get(&w->keep, hash_hex(name, hex)) != NULL;
}

/* Was the object put in time to be spared? What is not there is not. */
static int is_young(const struct sweep *w, enum object_kind kind, const struct hash *name,
                    bool *ret_young, struct err *err)
{
    int64_t put_ms = 0;
    int r = store_put_time(w->store, kind, name, &put_ms, err);

    if (r == -(int)ERR_NOT_FOUND)
        return 0;
    if (r == 0 && put_ms >= w->o->before_ms)
        *ret_young = true;
    return r;
}

static int artifact_is_young(const struct sweep *w, const struct catalog_artifact *a,
                             bool *ret_young, struct err *err)
{
    int r = is_young(w, OBJECT_MANIFEST, &a->hash, ret_young, err);

    for (size_t i = 0; r == 0 && !*ret_young && i < a->npacks; i++) {
        r = is_young(w, OBJECT_INDEX, &a->packs[i].hash, ret_young, err);
        if (r == 0)
            r = is_young(w, OBJECT_PACK, &a->packs[i].hash, ret_young, err);
    }
    return r;
}

/* *ret_gone: false if it was put again meanwhile. */
static int erase(struct sweep *w, const struct hash *artifact, enum object_kind kind,
                 const struct hash *name, uint64_t bytes, bool *ret_gone, struct err *err)
{
    int r = 0;

    *ret_gone = true;
    if (w->o->tell != NULL)
        w->o->tell(w->o->ctx, artifact, kind, name, bytes);
    if (!w->o->dry_run)
        r = store_expire(w->store, kind, name, w->o->before_ms, ret_gone, err);
    if (r == 0 && *ret_gone) {
        w->out->objects++;
        w->out->bytes += bytes;
    }
    return r;
}

static int delete_pack(struct sweep *w, const struct catalog_pack *p, bool *ret_gone,
                       struct err *err)
{
    int r = erase(w, &p->target, OBJECT_INDEX, &p->hash, 0, ret_gone, err);

    if (r == 0 && *ret_gone && p->present)
        r = erase(w, &p->target, OBJECT_PACK, &p->hash, p->bytes, ret_gone, err);
    return r;
}

static int sweep_artifact(struct sweep *w, const struct catalog_artifact *a, struct err *err)
{
    bool young = false, gone = true;
    int r = 0;

    if (is_kept(w, &a->hash)) {
        w->out->kept++;
        return 0;
    }
    r = artifact_is_young(w, a, &young, err);
    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && !young && gone && i < a->npacks; i++)
        r = delete_pack(w, &a->packs[i], &gone, err);
    if (r == 0 && !young && gone && a->manifest_bytes > 0)
        r = erase(w, &a->hash, OBJECT_MANIFEST, &a->hash, a->manifest_bytes, &gone, err);
    if (r == 0 && !young && gone)
        w->out->deleted++;
    else if (r == 0)
        w->out->young++;
    return r;
}

static int sweep_stray(struct sweep *w, const struct catalog_stray *stray, struct err *err)
{
    bool young = false, gone;
    int r = 0;

    if (is_kept(w, &stray->hash))
        return 0;
    r = is_young(w, OBJECT_PACK, &stray->hash, &young, err);
    if (r < 0 || young)
        return r;
    return erase(w, NULL, OBJECT_PACK, &stray->hash, stray->bytes, &gone, err);
}

int store_sweep(struct store *s, const struct catalog *c, const struct sweep_options *options,
                struct sweep_result *ret, struct err *err)
{
    struct sweep w = { .store = s, .o = options, .keep = MAP_INIT, .out = ret };
    char hex[HASH_HEX];
    int r = 0;

    *ret = (struct sweep_result){ 0 };
    for (size_t i = 0; i < options->nkeep; i++)
        map_put(&w.keep, hash_hex(&options->keep[i], hex), &w);
    for (size_t i = 0; r == 0 && i < c->nartifacts; i++)
        r = sweep_artifact(&w, &c->artifacts[i], err);
    for (size_t i = 0; r == 0 && i < c->nstrays; i++)
        r = sweep_stray(&w, &c->strays[i], err);
    map_release(&w.keep);
    return r < 0 ? err_wrap(err, "garbage collection") : 0;
}
