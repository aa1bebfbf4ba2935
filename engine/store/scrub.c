#include "store/scrub.h"

#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "io/files.h"
#include "io/loop.h"
#include "store/pack_check.h"
#include "store/publish.h"
#include "store/rebuild.h"
#include "store/replicate.h"

enum { SLICE_MS = 500 };

struct scrub {
    struct store *store;
    const struct catalog *catalog;
    const struct catalog_artifact *a;
    const struct scrub_options *o;
    struct scrub_result *out;
    struct manifest *m;
    int64_t started_ms;
    uint64_t paced; /* bytes since then */
};

const char *scrub_verdict_name(enum scrub_verdict v)
{
    static const char *const names[] = { "none", "good", "healed", "rotten" };

    return names[v];
}

static void say(struct scrub *x, enum object_kind kind, const struct hash *name,
                enum scrub_verdict verdict, const char *why)
{
    x->out->good += verdict == SCRUB_GOOD;
    x->out->healed += verdict == SCRUB_HEALED;
    x->out->rotten += verdict == SCRUB_ROTTEN;
    if (x->o->tell != NULL)
        x->o->tell(x->o->ctx, kind, name, verdict, why);
}

/* What another copy, or making it again, can mend; all else is trouble with the store. */
static bool is_rot(int r)
{
    return r == -(int)ERR_CORRUPT || r == -(int)ERR_INVALID || r == -(int)ERR_NOT_FOUND;
}

static int may_go_on(const struct scrub *x, struct err *err)
{
    if (x->o->go_on != NULL && x->o->go_on(x->o->ctx) < 0)
        return err_set(err, ERR_CANCELLED, "stopped");
    return 0;
}

/* Sleeps as long as more was read than the rate allows. */
static int pace(struct scrub *x, size_t len, struct err *err)
{
    int r = may_go_on(x, err);

    x->out->bytes += len;
    x->paced += len;
    while (r == 0 && x->o->bytes_per_s != 0) {
        int64_t ahead_ms =
            (int64_t)(x->paced * 1000 / x->o->bytes_per_s) - (monotonic_ms() - x->started_ms);
        int64_t sleep_ms = ahead_ms < SLICE_MS ? ahead_ms : SLICE_MS;
        struct timespec t = { 0, (long)sleep_ms * 1000000 };

        if (ahead_ms <= 0)
            break;
        (void)nanosleep(&t, NULL);
        r = may_go_on(x, err);
    }
    return r;
}

struct paced {
    struct scrub *scrub;
    struct store_object *object;
};

static int read_paced(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct paced *p = ctx;
    int r = pace(p->scrub, len, err);

    return r < 0 ? r : store_object_read(p->object, data, len, offset, err);
}

/* --- the manifest --- */

static int copy_manifest(struct scrub *x, struct err *err)
{
    int r = -(int)ERR_NOT_FOUND;

    for (size_t i = 0; r < 0 && i < x->o->nfrom; i++) {
        AUTO_BUF bytes = BUF_INIT;

        r = store_get(x->o->from[i], OBJECT_MANIFEST, &x->a->hash, &bytes, err);
        if (r == 0)
            r = store_put(x->store, OBJECT_MANIFEST, buf_str(&bytes), bytes.len, NULL, err);
    }
    return r < 0 ? r : store_get_manifest(x->store, &x->a->hash, &x->m, err);
}

static int check_manifest(struct scrub *x, struct err *err)
{
    struct err why = ERR_INIT, other = ERR_INIT;
    int r = store_get_manifest(x->store, &x->a->hash, &x->m, &why);
    bool healed;

    if (r < 0 && !is_rot(r)) {
        *err = why;
        return r;
    }
    healed = r < 0 && copy_manifest(x, &other) == 0;
    x->out->bytes += x->a->manifest_bytes;
    say(x, OBJECT_MANIFEST, &x->a->hash,
        healed   ? SCRUB_HEALED
        : r == 0 ? SCRUB_GOOD
                 : SCRUB_ROTTEN,
        r == 0 ? "" : why.text);
    return 0;
}

/* --- packs --- */

static int check_bytes(struct scrub *x, const struct pack_index *index, struct store_object *o,
                       struct err *err)
{
    struct paced p = { x, o };
    int r = 0;

    if (store_object_bytes(o) != index->bytes)
        r = err_set(err, ERR_CORRUPT, "%llu bytes, its index says %llu",
                    (unsigned long long)store_object_bytes(o), (unsigned long long)index->bytes);
    if (r == 0)
        r = pack_check_leaves(index, read_paced, &p, err);
    if (r == 0 && index->kind == PACK_FULL && x->m != NULL)
        r = pack_check_segments(x->m, &x->a->hash, index->bytes, read_paced, &p, NULL, NULL, err);
    return r;
}

static int check_pack(struct scrub *x, const struct hash *pack, struct err *err)
{
    struct pack_index *index = NULL;
    struct store_object *o = NULL;
    int r = store_get_index(x->store, pack, &index, err);

    if (r == 0)
        r = store_open_object(x->store, OBJECT_PACK, pack, &o, err);
    if (r == 0)
        r = check_bytes(x, index, o, err);
    store_object_close(o);
    pack_index_free(index);
    if ((r == -(int)ERR_CORRUPT || r == -(int)ERR_INVALID) &&
        store_quarantine(x->store, OBJECT_PACK, pack, NULL) < 0)
        return err_wrap(err, "could not be moved aside");
    return r;
}

static int copy_from(struct scrub *x, struct store *from, const struct hash *pack, struct err *err)
{
    AUTO_FREE char *dir = mem_printf("%s/parts", x->o->work);
    struct replication *copy = NULL;
    int r = replication_new(&copy, from, x->store, dir, &x->a->hash, err);

    if (r < 0)
        return r;
    r = replication_want(copy, pack, err);
    while (r == 0) {
        r = replication_step(copy, err);
        if (r == 0)
            break;
        r = r > 0 ? 0 : r;
    }
    replication_free(copy);
    return r;
}

/* What heals a pack is proved again, in place. delta: what its index says of it; NULL: it is full. */
static bool heal(struct scrub *x, const struct hash *pack, const struct catalog_pack *delta,
                 struct err *err)
{
    bool healed = false;

    if (x->m == NULL || x->o->work == NULL)
        return false;
    if (delta == NULL && pack_reindex(x->store, &x->a->hash, pack, err) == 0)
        healed = check_pack(x, pack, err) == 0;
    for (size_t i = 0; !healed && i < x->o->nfrom; i++)
        healed = copy_from(x, x->o->from[i], pack, err) == 0 && check_pack(x, pack, err) == 0;
    if (!healed && delta == NULL)
        healed = pack_rebuild(x->store, x->catalog, x->a, pack, x->o->work, err) == 0;
    else if (!healed)
        healed = delta_rebuild(x->store, x->catalog, delta, err) == 0;
    healed = healed && check_pack(x, pack, err) == 0;
    (void)!dir_remove(x->o->work, NULL);
    return healed;
}

static int scrub_pack(struct scrub *x, const struct hash *pack, const struct catalog_pack *delta,
                      struct err *err)
{
    struct err why = ERR_INIT, other = ERR_INIT;
    int r = check_pack(x, pack, &why);

    if (r < 0 && !is_rot(r)) {
        *err = why;
        return r;
    }
    if (r == 0) {
        say(x, OBJECT_PACK, pack, SCRUB_GOOD, "");
    } else if (heal(x, pack, delta, &other)) {
        say(x, OBJECT_PACK, pack, SCRUB_HEALED, why.text);
    } else if (other.code == ERR_CANCELLED) {
        *err = other;
        return -(int)ERR_CANCELLED;
    } else {
        say(x, OBJECT_PACK, pack, SCRUB_ROTTEN, why.text);
    }
    return 0;
}

static bool is_listed(const struct catalog_artifact *a, const struct hash *pack)
{
    for (size_t i = 0; i < a->npacks; i++)
        if (hash_equal(&a->packs[i].hash, pack))
            return true;
    return false;
}

int artifact_scrub(struct store *s, const struct catalog *c, const struct catalog_artifact *a,
                   const struct scrub_options *options, struct scrub_result *ret, struct err *err)
{
    struct scrub x = {
        .store = s, .catalog = c, .a = a, .o = options, .out = ret, .started_ms = monotonic_ms()
    };
    char hex[HASH_HEX];
    int r = check_manifest(&x, err);

    for (size_t i = 0; r == 0 && i < a->npacks; i++)
        r = scrub_pack(&x, &a->packs[i].hash, a->packs[i].kind == PACK_DELTA ? &a->packs[i] : NULL,
                       err);
    for (size_t i = 0; r == 0 && i < options->nexpect; i++)
        if (!is_listed(a, &options->expect[i]))
            r = scrub_pack(&x, &options->expect[i], NULL, err);
    manifest_free(x.m);
    return r < 0 ? err_wrap(err, "scrub artifact %.12s", hash_hex(&a->hash, hex)) : 0;
}
