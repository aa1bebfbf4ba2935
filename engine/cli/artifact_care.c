/* engine artifact verify, gc. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/artifact.h"
#include "cli/progress.h"
#include "io/files.h"
#include "io/loop.h"
#include "store/scrub.h"
#include "store/sweep.h"

enum {
    FROM_MAX = 64,
    KEEP_FILE_MAX_BYTES = 64 << 20,
    FORGET_AT_ONCE = 1000,
    CLOCKS_APART_MS = 60000, /* the database's and the store's, at most */
};

/* --- verify --- */

struct verifying {
    struct artifact_site *s;
    struct scrub_options o;
    struct store *from[FROM_MAX];
    char *work;
    struct scrub_result result;
    size_t artifacts;
    json_t *objects; /* what was not good */
};

static void on_object(void *ctx, enum object_kind kind, const struct hash *name,
                      enum scrub_verdict verdict, const char *why)
{
    struct verifying *v = ctx;
    char hex[HASH_HEX];

    if (verdict == SCRUB_GOOD)
        return;
    hash_hex(name, hex);
    json_array_append_new(v->objects,
                          json_pack("{s:s,s:s,s:s,s:s}", "kind", object_kind_name(kind), "name",
                                    hex, "verdict", scrub_verdict_name(verdict), "reason", why));
    if (!v->s->g->json)
        printf("%s %.12s %s: %s\n", object_kind_name(kind), hex, scrub_verdict_name(verdict), why);
}

static int open_from(struct verifying *v, struct err *err)
{
    const struct texts *from = &v->s->o->from;

    if (from->count > FROM_MAX)
        return err_set(err, ERR_LIMIT, "--from: at most %d stores", FROM_MAX);
    for (int i = 0; i < from->count; i++) {
        if (!path_is_dir(from->items[i]))
            return err_set(err, ERR_NOT_FOUND, "--from %s: no such directory", from->items[i]);
        if (!artifact_is_store(from->items[i]))
            return err_set(err, ERR_INVALID,
                           "--from %s is no store (it has no manifest/, index/ and pack/)",
                           from->items[i]);
        if (store_open(&v->from[i], from->items[i], err) < 0)
            return -(int)err->code;
        v->o.nfrom++;
    }
    return 0;
}

static int verify_one(struct verifying *v, const struct catalog_artifact *a, struct err *err)
{
    const json_t *known = artifact_known(v->s, &a->hash);
    struct hash pack;

    v->artifacts++;
    v->o.nexpect = 0;
    if (hash_parse(&pack, artifact_text(known, "pack")) &&
        json_is_true(json_object_get(known, "reachable")))
        v->o.nexpect = 1;
    v->o.expect = &pack;
    return artifact_scrub(v->s->store, v->s->catalog, a, &v->o, &v->result, err);
}

/* What is needed and not there at all. */
static int verify_missing(struct verifying *v, struct err *err)
{
    json_t *known;
    size_t i;
    int r = 0;

    json_array_foreach(json_object_get(v->s->known, "artifacts"), i, known)
    {
        struct catalog_artifact a = { 0 };

        if (r == 0 && json_is_true(json_object_get(known, "reachable")) &&
            hash_parse(&a.hash, artifact_text(known, "digest")) &&
            catalog_get(v->s->catalog, &a.hash) == NULL)
            r = verify_one(v, &a, err);
    }
    return r;
}

static int verify_all(struct verifying *v, struct err *err)
{
    const struct catalog *c = v->s->catalog;
    int r = 0;

    for (size_t i = 0; r == 0 && i < c->nartifacts; i++)
        r = verify_one(v, &c->artifacts[i], err);
    return r < 0 ? r : verify_missing(v, err);
}

static int verify_found(struct verifying *v, const char *id, struct err *err)
{
    const struct catalog_artifact *a = NULL;
    int r = catalog_find(v->s->catalog, id, &a, err);

    return r < 0 ? r : verify_one(v, a, err);
}

static void print_verified(struct verifying *v)
{
    const struct scrub_result *x = &v->result;
    AUTO_BUF bytes = BUF_INIT;

    if (v->s->g->json) {
        artifact_print(json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:O}", "v", 1, "artifacts",
                                 (json_int_t)v->artifacts, "bytes", (json_int_t)x->bytes, "good",
                                 (json_int_t)x->good, "healed", (json_int_t)x->healed, "rotten",
                                 (json_int_t)x->rotten, "objects", v->objects));
        return;
    }
    progress_bytes(&bytes, (int64_t)x->bytes);
    printf("%zu artifact%s, %s read: %llu manifests and packs are good, %llu were healed, %llu are "
           "rotten\n",
           v->artifacts, v->artifacts == 1 ? "" : "s", buf_str(&bytes), (unsigned long long)x->good,
           (unsigned long long)x->healed, (unsigned long long)x->rotten);
}

int artifact_verify_verb(struct artifact_site *s, const char *id)
{
    struct verifying v = { .s = s, .objects = json_array() };
    struct err err = ERR_INIT;
    int r = s->store == NULL ? err_set(&err, ERR_INVALID, "name the store by --store DIR") : 0;

    v.work = mem_printf("%s/tmp/heal-%lld", s->dir == NULL ? "." : s->dir, (long long)wall_ms());
    v.o = (struct scrub_options){ .from = v.from, .work = v.work, .tell = on_object, .ctx = &v };
    if (r == 0)
        r = flags_rate("--rate", s->o->rate, &v.o.bytes_per_s, &err);
    if (r == 0)
        r = open_from(&v, &err);
    if (r == 0)
        r = id == NULL ? verify_all(&v, &err) : verify_found(&v, id, &err);
    if (r == 0)
        print_verified(&v);
    for (size_t i = 0; i < v.o.nfrom; i++)
        store_close(v.from[i]);
    json_decref(v.objects);
    free(v.work);
    if (r < 0)
        return fail(s->g, &err);
    return v.result.rotten > 0 ? EXIT_NEEDS_PERSON : EXIT_OK;
}

/* --- gc --- */

struct collecting {
    struct artifact_site *s;
    struct hash *keep;
    size_t nkeep, cap;
    int64_t before_ms;
    json_t *going;   /* {digest: true}: what the first look found */
    json_t *objects; /* what goes, in order */
};

static void keep(struct collecting *c, const char *hex)
{
    struct hash h;

    if (!hash_parse(&h, hex))
        return;
    VEC_GROW(c->keep, c->nkeep, c->cap);
    c->keep[c->nkeep++] = h;
}

static int read_keep_file(struct collecting *c, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    size_t line = 0;
    int r = file_read(&text, c->s->o->keep_file, KEEP_FILE_MAX_BYTES, err);

    for (char *at = text.data; r == 0 && at != NULL && *at != '\0';) {
        size_t len = strcspn(at, "\n");
        char *next = at[len] == '\0' ? at + len : at + len + 1;
        struct hash h;

        line++;
        at[len] = '\0';
        at[strcspn(at, " \t\r#")] = '\0';
        if (*at != '\0' && !hash_parse(&h, at))
            r = err_set(err, ERR_INVALID, "%s:%zu: not a digest of 64 digits", c->s->o->keep_file,
                        line);
        keep(c, at);
        at = next;
    }
    return r;
}

/* A store of which the control plane knows nothing is not its own: then all of it would go. */
static int keep_reachable(struct collecting *c, struct err *err)
{
    size_t i, ours = 0;
    json_t *known;

    json_array_foreach(json_object_get(c->s->known, "artifacts"), i, known)
    {
        struct hash h;

        if (hash_parse(&h, artifact_text(known, "digest")) &&
            catalog_get(c->s->catalog, &h) != NULL)
            ours++;
        if (!json_is_true(json_object_get(known, "reachable")))
            continue;
        keep(c, artifact_text(known, "digest"));
        keep(c, artifact_text(known, "pack"));
    }
    if (ours == 0 && c->s->catalog->nartifacts > 0)
        return err_set(err, ERR_CONFLICT,
                       "the control plane knows none of the artifacts in %s: is it its store?",
                       c->s->dir);
    return 0;
}

static int what_to_keep(struct collecting *c, struct err *err)
{
    const struct artifact_options *o = c->s->o;
    /* A job that runs now has put nothing before it began, one that comes later nothing before now. */
    const char *const floors[] = { "now", "safe_before" };
    int r = 0;

    if (c->s->store == NULL)
        return err_set(err, ERR_INVALID, "name the store by --store DIR");
    if (c->s->known == NULL && o->keep_file == NULL)
        return err_set(err, ERR_INVALID,
                       "who needs what is not known here: name the control plane by --engine, or "
                       "what is to be kept by --keep-file");
    c->before_ms = wall_ms() - o->grace_ms;
    for (size_t i = 0; i < COUNT_OF(floors); i++) {
        int64_t floor_ms = artifact_int(c->s->known, floors[i]);

        if (floor_ms != 0 && floor_ms - CLOCKS_APART_MS < c->before_ms)
            c->before_ms = floor_ms - CLOCKS_APART_MS;
    }
    if (o->keep_file != NULL)
        r = read_keep_file(c, err);
    if (r == 0 && c->s->known != NULL)
        r = keep_reachable(c, err);
    return r;
}

/* The artifact without which nobody has a use for the object; NULL: that is not known. */
static const struct hash *unneeded(const struct sweep_item *item)
{
    return item->base != NULL ? item->base : item->artifact;
}

static void on_candidate(void *ctx, const struct sweep_item *item)
{
    struct collecting *c = ctx;
    char hex[HASH_HEX];

    if (unneeded(item) != NULL)
        json_object_set_new(c->going, hash_hex(unneeded(item), hex), json_true());
}

/* "of 12ab34…: nothing needs it" */
static void explain(const struct artifact_site *s, const struct sweep_item *item, struct buf *out)
{
    char hex[HASH_HEX];

    if (item->why == SWEEP_STRAY) {
        buf_str_append(out, "of no artifact");
        return;
    }
    buf_printf(out, "of %.12s", hash_hex(item->artifact, hex));
    if (item->why == SWEEP_BASELESS)
        buf_printf(out, ": a delta from %.12s, which is not needed", hash_hex(item->base, hex));
    else if (s->known != NULL)
        buf_printf(out, ": %s", artifact_reason(s, artifact_known(s, item->artifact)));
    else
        buf_str_append(out, ": not in the list");
}

static void on_deletion(void *ctx, const struct sweep_item *item)
{
    struct collecting *c = ctx;
    char hex[HASH_HEX], of[HASH_HEX] = "", base[HASH_HEX];
    AUTO_BUF why = BUF_INIT;
    json_t *o;

    explain(c->s, item, &why);
    hash_hex(item->name, hex);
    if (!c->s->g->json) {
        printf("%s %-8s %.12s  %12llu bytes  %s\n", c->s->o->dry_run ? "would delete" : "delete",
               object_kind_name(item->kind), hex, (unsigned long long)item->bytes, buf_str(&why));
        return;
    }
    if (item->artifact != NULL)
        hash_hex(item->artifact, of);
    o = json_pack("{s:s,s:s,s:s,s:I,s:s,s:s}", "kind", object_kind_name(item->kind), "name", hex,
                  "artifact", of, "bytes", (json_int_t)item->bytes, "why",
                  sweep_why_name(item->why), "reason", buf_str(&why));
    if (item->base != NULL)
        json_object_set_new(o, "base", json_string(hash_hex(item->base, base)));
    json_array_append_new(c->objects, o);
}

/* The control plane lets go of them first; what it needs after all stays. */
static int ask_to_forget(struct collecting *c, json_t *digests, struct err *err)
{
    AUTO_JSON *body = json_pack("{s:O,s:I}", "digests", digests, "keep", (json_int_t)c->s->o->keep);
    AUTO_JSON *answer = NULL;
    json_t *digest;
    size_t i;
    int r = client_post(c->s->client, "/v1/artifacts/forget", body, &answer, err);

    json_array_foreach(json_object_get(answer, "forgotten"), i, digest)
        json_object_del(c->going, json_string_value(digest));
    return r;
}

static int forget(struct collecting *c, struct err *err)
{
    AUTO_JSON *all = json_deep_copy(c->going);
    json_t *batch = json_array(), *value;
    const char *digest;
    int r = 0;

    json_object_foreach(all, digest, value)
    {
        json_array_append_new(batch, json_string(digest));
        if (r == 0 && json_array_size(batch) == FORGET_AT_ONCE) {
            r = ask_to_forget(c, batch, err);
            json_array_clear(batch);
        }
    }
    if (r == 0 && json_array_size(batch) > 0)
        r = ask_to_forget(c, batch, err);
    json_decref(batch);
    json_object_foreach(c->going, digest, value) keep(c, digest);
    return r;
}

static int sweep(struct collecting *c, bool only_look, struct sweep_result *ret, struct err *err)
{
    struct sweep_options o = { .keep = c->keep,
                               .nkeep = c->nkeep,
                               .before_ms = c->before_ms,
                               .dry_run = only_look || c->s->o->dry_run,
                               .tell = only_look ? on_candidate : on_deletion,
                               .ctx = c };

    return store_sweep(c->s->store, c->s->catalog, &o, ret, err);
}

static void print_collected(const struct collecting *c, const struct sweep_result *x)
{
    bool dry = c->s->o->dry_run;
    AUTO_BUF bytes = BUF_INIT;

    if (c->s->g->json) {
        artifact_print(json_pack("{s:i,s:b,s:I,s:I,s:I,s:I,s:I,s:O}", "v", 1, "dry_run", dry,
                                 "kept", (json_int_t)x->kept, "young", (json_int_t)x->young,
                                 "deleted", (json_int_t)x->deleted, "deltas", (json_int_t)x->deltas,
                                 "bytes", (json_int_t)x->bytes, "objects", c->objects));
        return;
    }
    progress_bytes(&bytes, (int64_t)x->bytes);
    printf("%llu artifact%s and %llu delta%s of others %s, %s; %llu needed, %llu too young\n",
           (unsigned long long)x->deleted, x->deleted == 1 ? "" : "s",
           (unsigned long long)x->deltas, x->deltas == 1 ? "" : "s", dry ? "would go" : "deleted",
           buf_str(&bytes), (unsigned long long)x->kept, (unsigned long long)x->young);
}

int artifact_gc_verb(struct artifact_site *s)
{
    struct collecting c = { .s = s, .going = json_object(), .objects = json_array() };
    struct sweep_result result = { 0 };
    struct err err = ERR_INIT;
    int r = what_to_keep(&c, &err);

    if (r == 0)
        r = sweep(&c, true, &result, &err);
    if (r == 0 && !s->o->dry_run && s->client != NULL)
        r = forget(&c, &err);
    if (r == 0)
        r = sweep(&c, false, &result, &err);
    if (r == 0)
        print_collected(&c, &result);
    json_decref(c.going);
    json_decref(c.objects);
    free(c.keep);
    return r < 0 ? fail(s->g, &err) : EXIT_OK;
}
