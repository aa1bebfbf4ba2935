#include "store/sweep.h"

#include "base/map.h"
#include "base/mem.h"

struct sweep {
    struct store *store;
    const struct sweep_options *o;
    struct map keep;
    struct sweep_result *out;
};

const char *sweep_why_name(enum sweep_why w)
{
    static const char *const names[] = { "none", "unneeded", "baseless", "stray" };

    return names[w];
}

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

static int pack_is_young(const struct sweep *w, const struct hash *pack, bool *ret_young,
                         struct err *err)
{
    int r = is_young(w, OBJECT_INDEX, pack, ret_young, err);

    return r < 0 ? r : is_young(w, OBJECT_PACK, pack, ret_young, err);
}

static int artifact_is_young(const struct sweep *w, const struct catalog_artifact *a,
                             bool *ret_young, struct err *err)
{
    int r = is_young(w, OBJECT_MANIFEST, &a->hash, ret_young, err);

    for (size_t i = 0; r == 0 && !*ret_young && i < a->npacks; i++)
        r = pack_is_young(w, &a->packs[i].hash, ret_young, err);
    return r;
}

/* *ret_gone: false if it was put again meanwhile. */
static int erase(struct sweep *w, const struct sweep_item *item, bool *ret_gone, struct err *err)
{
    int r = 0;

    *ret_gone = true;
    if (w->o->tell != NULL)
        w->o->tell(w->o->ctx, item);
    if (!w->o->dry_run)
        r = store_expire(w->store, item->kind, item->name, w->o->before_ms, ret_gone, err);
    if (r == 0 && *ret_gone) {
        w->out->objects++;
        w->out->bytes += item->bytes;
    }
    return r;
}

static int delete_pack(struct sweep *w, const struct catalog_pack *p, enum sweep_why why,
                       bool *ret_gone, struct err *err)
{
    struct sweep_item item = { why,          &p->target, why == SWEEP_BASELESS ? &p->base : NULL,
                               OBJECT_INDEX, &p->hash,   0 };
    int r = erase(w, &item, ret_gone, err);

    item.kind = OBJECT_PACK;
    item.bytes = p->bytes;
    if (r == 0 && *ret_gone && p->present)
        r = erase(w, &item, ret_gone, err);
    return r;
}

static int sweep_delta(struct sweep *w, const struct catalog_pack *p, struct err *err)
{
    bool young = false, gone = false;
    int r;

    if (p->kind != PACK_DELTA || is_kept(w, &p->base) || is_kept(w, &p->hash))
        return 0;
    r = pack_is_young(w, &p->hash, &young, err);
    if (r == 0 && !young)
        r = delete_pack(w, p, SWEEP_BASELESS, &gone, err);
    w->out->deltas += gone;
    return r;
}

static int sweep_kept(struct sweep *w, const struct catalog_artifact *a, struct err *err)
{
    int r = 0;

    w->out->kept++;
    for (size_t i = 0; r == 0 && i < a->npacks; i++)
        r = sweep_delta(w, &a->packs[i], err);
    return r;
}

static int sweep_artifact(struct sweep *w, const struct catalog_artifact *a, struct err *err)
{
    struct sweep_item manifest = { SWEEP_UNNEEDED,  &a->hash, NULL,
                                   OBJECT_MANIFEST, &a->hash, a->manifest_bytes };
    bool young = false, gone = true;
    int r = artifact_is_young(w, a, &young, err);

    for (size_t i = 0; r == 0 && !young && gone && i < a->npacks; i++)
        r = delete_pack(w, &a->packs[i], SWEEP_UNNEEDED, &gone, err);
    if (r == 0 && !young && gone && a->manifest_bytes > 0)
        r = erase(w, &manifest, &gone, err);
    if (r == 0 && !young && gone)
        w->out->deleted++;
    else if (r == 0)
        w->out->young++;
    return r;
}

static int sweep_stray(struct sweep *w, const struct catalog_stray *stray, struct err *err)
{
    struct sweep_item item = { SWEEP_STRAY, NULL, NULL, OBJECT_PACK, &stray->hash, stray->bytes };
    bool young = false, gone;
    int r = 0;

    if (is_kept(w, &stray->hash))
        return 0;
    r = is_young(w, OBJECT_PACK, &stray->hash, &young, err);
    if (r < 0 || young)
        return r;
    return erase(w, &item, &gone, err);
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
        r = is_kept(&w, &c->artifacts[i].hash) ? sweep_kept(&w, &c->artifacts[i], err)
                                               : sweep_artifact(&w, &c->artifacts[i], err);
    for (size_t i = 0; r == 0 && i < c->nstrays; i++)
        r = sweep_stray(&w, &c->strays[i], err);
    map_release(&w.keep);
    return r < 0 ? err_wrap(err, "garbage collection") : 0;
}
