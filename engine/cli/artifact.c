/* engine artifact - what the blob store holds, and its care. */
#include "cli/artifact.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "control/reach.h"
#include "io/files.h"
#include "store/export.h"
#include "store/publish.h"

enum { CALL_MS = 60000 };

static const int64_t GRACE_MS = INT64_C(7) * 86400000;

const char *artifact_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text == NULL ? "" : text;
}

int64_t artifact_int(const json_t *o, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(o, key));
}

void artifact_print(json_t *o)
{
    AUTO_FREE char *text = json_text(o);

    puts(text);
    json_decref(o);
}

const json_t *artifact_known(const struct artifact_site *s, const struct hash *artifact)
{
    const json_t *list = json_object_get(s->known, "artifacts");
    char hex[HASH_HEX];
    json_t *a;
    size_t i;

    hash_hex(artifact, hex);
    json_array_foreach(list, i, a)
    {
        if (strcmp(artifact_text(a, "digest"), hex) == 0)
            return a;
    }
    return NULL;
}

const char *artifact_reason(const struct artifact_site *s, const json_t *known)
{
    const char *first = json_string_value(json_array_get(json_object_get(known, "reasons"), 0));

    if (s->known == NULL)
        return "";
    if (known == NULL)
        return "no release names it";
    return first == NULL ? "nothing needs it" : first;
}

static const json_t *first_release(const json_t *known)
{
    return json_array_get(json_object_get(known, "releases"), 0);
}

/* --- ls --- */

/* In the store, known, or both. */
static json_t *row(const struct artifact_site *s, const struct catalog_artifact *a,
                   const json_t *known)
{
    json_t *o = known == NULL ? json_object() : json_deep_copy(known);
    char hex[HASH_HEX];
    size_t packs = 0, deltas = 0;

    if (a != NULL) {
        for (size_t i = 0; i < a->npacks; i++) {
            packs += a->packs[i].present;
            deltas += a->packs[i].present && a->packs[i].kind == PACK_DELTA;
        }
        json_object_set_new(o, "digest", json_string(hash_hex(&a->hash, hex)));
        json_object_set_new(o, "packs", json_integer((json_int_t)packs));
        json_object_set_new(o, "delta_packs", json_integer((json_int_t)deltas));
        json_object_set_new(o, "store_bytes", json_integer((json_int_t)a->bytes));
    }
    if (s->store != NULL)
        json_object_set_new(o, "stored", json_boolean(a != NULL));
    return o;
}

static json_t *rows_of(const struct artifact_site *s)
{
    json_t *rows = json_array(), *k;
    size_t i;

    json_array_foreach(json_object_get(s->known, "artifacts"), i, k)
    {
        const struct catalog_artifact *a = NULL;
        struct hash h;

        if (s->catalog != NULL && hash_parse(&h, artifact_text(k, "digest")))
            a = catalog_get(s->catalog, &h);
        json_array_append_new(rows, row(s, a, k));
    }
    for (i = 0; s->catalog != NULL && i < s->catalog->nartifacts; i++) {
        const struct catalog_artifact *a = &s->catalog->artifacts[i];

        if (artifact_known(s, &a->hash) == NULL)
            json_array_append_new(rows, row(s, a, NULL));
    }
    return rows;
}

static void print_row(const struct artifact_site *s, const json_t *o)
{
    const json_t *release = first_release(o);
    bool has_store = s->store != NULL;
    const char *why = artifact_reason(s, json_object_get(o, "releases") == NULL ? NULL : o);
    AUTO_BUF bytes = BUF_INIT, stored = BUF_INIT;

    progress_bytes(&bytes, artifact_int(o, "bytes"));
    progress_bytes(&stored, artifact_int(o, has_store ? "store_bytes" : "pack_bytes"));
    printf("%.12s  %-16.16s %-7.7s  %10s  %10s  ", artifact_text(o, "digest"),
           artifact_text(o, "service"), artifact_text(release, "commit"),
           json_object_get(o, "bytes") == NULL ? "?" : buf_str(&bytes), buf_str(&stored));
    if (has_store && !json_is_true(json_object_get(o, "stored")))
        printf("NOT IN THE STORE; ");
    else if (has_store)
        printf("%lld pack%s %s ", (long long)artifact_int(o, "packs"),
               artifact_int(o, "packs") == 1 ? " " : "s",
               artifact_int(o, "delta_packs") > 0 ? "(with deltas)" : "");
    printf("%s\n", why);
}

static int list(const struct artifact_site *s)
{
    json_t *rows = rows_of(s), *o;
    size_t i;

    if (s->g->json) {
        artifact_print(json_pack("{s:i,s:o}", "v", 1, "artifacts", rows));
        return EXIT_OK;
    }
    json_array_foreach(rows, i, o) print_row(s, o);
    if (json_array_size(rows) == 0)
        printf("no artifacts\n");
    json_decref(rows);
    return EXIT_OK;
}

/* --- show --- */

static json_t *packs_json(const struct catalog_artifact *a)
{
    json_t *packs = json_array();

    for (size_t i = 0; i < a->npacks; i++) {
        const struct catalog_pack *p = &a->packs[i];
        json_t *o = json_pack("{s:o,s:s,s:I,s:b}", "pack", json_hash(&p->hash), "kind",
                              p->kind == PACK_DELTA ? "delta" : "full", "bytes",
                              (json_int_t)p->bytes, "present", p->present);

        if (p->kind == PACK_DELTA)
            json_object_set_new(o, "base", json_hash(&p->base));
        json_array_append_new(packs, o);
    }
    return packs;
}

static json_t *tree_json(const struct manifest *m)
{
    json_t *tree = json_array();

    for (size_t i = 0; i < m->nentries; i++) {
        const struct entry *e = &m->entries[i];
        const char kind[2] = { (char)e->kind, '\0' };
        json_t *o = json_pack("{s:s,s:s,s:i}", "path", e->path, "kind", kind, "mode", (int)e->mode);

        if (e->kind == ENTRY_FILE) {
            json_object_set_new(o, "bytes", json_integer((json_int_t)e->size));
            json_object_set_new(o, "sha256", json_hash(&e->hash));
        } else if (e->kind == ENTRY_LINK) {
            json_object_set_new(o, "target", json_string(e->target));
        }
        json_array_append_new(tree, o);
    }
    return tree;
}

static void print_tree(const struct manifest *m)
{
    for (size_t i = 0; i < m->nentries; i++) {
        const struct entry *e = &m->entries[i];

        if (e->kind == ENTRY_FILE)
            printf("  %04o %12llu  %s\n", e->mode, (unsigned long long)e->size, e->path);
        else if (e->kind == ENTRY_DIR)
            printf("  %04o %12s  %s/\n", e->mode, "", e->path);
        else
            printf("  link %12s  %s -> %s\n", "", e->path, e->target);
    }
}

static void print_bytes(const char *what, uint64_t bytes)
{
    AUTO_BUF text = BUF_INIT;

    progress_bytes(&text, (int64_t)bytes);
    printf("%-10s %s (%llu bytes)\n", what, buf_str(&text), (unsigned long long)bytes);
}

static void print_known(const struct artifact_site *s, const json_t *known)
{
    json_t *o;
    size_t i;

    if (s->known == NULL)
        return;
    json_array_foreach(json_object_get(known, "releases"), i, o)
        printf("%-10s %.12s of %s at %.12s%s\n", "release", artifact_text(o, "release"),
               artifact_text(known, "service"), artifact_text(o, "commit"),
               json_is_true(json_object_get(o, "good")) ? ", succeeded" : "");
    json_array_foreach(json_object_get(known, "deployments"), i, o)
        printf("%-10s %s\n", "deployment", json_string_value(o));
    json_array_foreach(json_object_get(known, "reasons"), i, o)
        printf("%-10s %s\n", "kept", json_string_value(o));
    if (json_array_size(json_object_get(known, "reasons")) == 0)
        printf("%-10s %s: gc would take it\n", "kept", artifact_reason(s, known));
}

static void print_artifact(const struct artifact_site *s, const struct catalog_artifact *a,
                           const struct manifest *m)
{
    char hex[HASH_HEX], base[HASH_HEX];

    printf("%-10s %s\n", "artifact", hash_hex(&a->hash, hex));
    print_bytes("content", m->stream_bytes);
    printf("%-10s %zu entries, %zu segments\n", "tree", m->nentries, m->nsegments);
    print_known(s, artifact_known(s, &a->hash));
    for (size_t i = 0; i < a->npacks; i++) {
        const struct catalog_pack *p = &a->packs[i];

        printf("%-10s %.12s %s", "pack", hash_hex(&p->hash, hex),
               p->kind == PACK_DELTA ? "delta" : "full");
        if (p->kind == PACK_DELTA)
            printf(" from %.12s", hash_hex(&p->base, base));
        printf(", %llu bytes%s\n", (unsigned long long)p->bytes, p->present ? "" : ", MISSING");
    }
    print_tree(m);
}

static int find(const struct artifact_site *s, const char *id, const struct catalog_artifact **ret,
                struct err *err)
{
    if (s->catalog == NULL)
        return err_set(err, ERR_INVALID, "name the store by --store DIR");
    return catalog_find(s->catalog, id, ret, err);
}

static int show(const struct artifact_site *s, const char *id)
{
    const struct catalog_artifact *a = NULL;
    struct manifest *m = NULL;
    struct err err = ERR_INIT;
    int r = find(s, id, &a, &err);

    if (r == 0)
        r = store_get_manifest(s->store, &a->hash, &m, &err);
    if (r < 0)
        return fail(s->g, &err);
    if (s->g->json) {
        json_t *o = row(s, a, artifact_known(s, &a->hash));

        json_object_set_new(o, "v", json_integer(1));
        json_object_set_new(o, "bytes", json_integer((json_int_t)m->stream_bytes));
        json_object_set_new(o, "segments", json_integer((json_int_t)m->nsegments));
        json_object_set_new(o, "packs", packs_json(a));
        json_object_set_new(o, "tree", tree_json(m));
        artifact_print(o);
    } else {
        print_artifact(s, a, m);
    }
    manifest_free(m);
    return EXIT_OK;
}

/* --- export --- */

static int export_tree(const struct artifact_site *s, const char *id, const char *dest)
{
    const struct catalog_artifact *a = NULL;
    struct err err = ERR_INIT;
    char hex[HASH_HEX];
    int r = find(s, id, &a, &err);

    if (r == 0)
        r = artifact_export(s->store, a, dest, &err);
    if (r < 0)
        return fail(s->g, &err);
    hash_hex(&a->hash, hex);
    if (s->g->json)
        artifact_print(json_pack("{s:i,s:s,s:s}", "v", 1, "digest", hex, "path", dest));
    else
        printf("%.12s is in %s, verified\n", hex, dest);
    return EXIT_OK;
}

/* --- the verb --- */

/* To open a store is to make it: not where somebody only wants to look. */
bool artifact_is_store(const char *dir)
{
    static const char *const parts[] = { "manifest", "index", "pack" };

    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", dir, parts[i]);

        if (!path_is_dir(path))
            return false;
    }
    return true;
}

static int open_store(struct artifact_site *s, struct err *err)
{
    int r;

    if (s->o->store == NULL && s->g->engine != NULL)
        return 0;
    s->dir =
        s->o->store != NULL ? mem_strdup(s->o->store) : mem_printf("%s/store", s->g->state_dir);
    if (!artifact_is_store(s->dir))
        return err_set(
            err, ERR_NOT_FOUND,
            "%s is no store (it has no manifest/, index/ and pack/): name one by --store or "
            "--state",
            s->dir);
    r = store_open(&s->store, s->dir, err);
    return r < 0 ? r : catalog_read(&s->catalog, s->store, err);
}

static int open_site(struct artifact_site *s, struct err *err)
{
    AUTO_FREE char *path = mem_printf("/v1/artifacts?keep=%lld", (long long)s->o->keep);
    int r = 0;

    if (s->g->engine != NULL || s->o->store == NULL)
        r = client_open(&s->client, s->g, err);
    if (r == 0 && s->client != NULL)
        r = client_get(s->client, path, CALL_MS, &s->known, err);
    /* The store is read after: what it has by then and the control plane has not, is young. */
    return r < 0 ? r : open_store(s, err);
}

static void close_site(struct artifact_site *s)
{
    client_close(s->client);
    json_decref(s->known);
    catalog_free(s->catalog);
    store_close(s->store);
    free(s->dir);
}

static bool is_usage(const struct artifact_options *o, const char *what, int operands)
{
    return (strcmp(what, "ls") == 0 && operands == 1) ||
           (strcmp(what, "show") == 0 && operands == 2) ||
           (strcmp(what, "export") == 0 && operands == 3) ||
           (strcmp(what, "verify") == 0 && operands == (o->all ? 1 : 2)) ||
           (strcmp(what, "gc") == 0 && operands == 1);
}

/* An option that is another verb's would be taken for obeyed. */
static int check(const struct artifact_options *o, const char *what, int operands, struct err *err)
{
    const struct {
        bool given;
        const char *name, *verb;
    } options[] = {
        { o->all, "all", "verify" },
        { o->from.count > 0, "from", "verify" },
        { o->rate != NULL, "rate", "verify" },
        { o->dry_run, "dry-run", "gc" },
        { o->grace_ms != GRACE_MS, "grace", "gc" },
        { o->keep != REACH_KEEP, "keep", "gc" },
        { o->keep_file != NULL, "keep-file", "gc" },
    };

    for (size_t i = 0; i < COUNT_OF(options); i++) {
        if (options[i].given && strcmp(options[i].verb, what) != 0)
            return err_set(err, ERR_INVALID, "--%s is for artifact %s, not for artifact %s",
                           options[i].name, options[i].verb, what);
    }
    if (!is_usage(o, what, operands))
        return err_set(err, ERR_INVALID,
                       "usage: engine artifact ls | show ID | verify ID | verify --all | gc | "
                       "export ID DIR");
    if (o->keep < 0 || o->keep > REACH_KEEP_MAX)
        return err_set(err, ERR_INVALID, "--keep %lld: it is 0 to %d", (long long)o->keep,
                       REACH_KEEP_MAX);
    return 0;
}

static int dispatch(struct artifact_site *s, char **argv)
{
    const char *what = argv[0];

    if (strcmp(what, "ls") == 0)
        return list(s);
    if (strcmp(what, "show") == 0)
        return show(s, argv[1]);
    if (strcmp(what, "export") == 0)
        return export_tree(s, argv[1], argv[2]);
    if (strcmp(what, "verify") == 0)
        return artifact_verify_verb(s, s->o->all ? NULL : argv[1]);
    return artifact_gc_verb(s);
}

int cli_artifact(int argc, char **argv)
{
    struct artifact_options o = { .grace_ms = GRACE_MS, .keep = REACH_KEEP };
    const struct flag flags[] = {
        { "store", FLAG_TEXT, &o.store, "DIR", "a store by itself; without: the state's" },
        { "all", FLAG_BOOL, &o.all, NULL, "verify: every artifact" },
        { "from", FLAG_LIST, &o.from, "DIR",
          "verify: a store to copy from what rotted (a region's: DATA/store)" },
        { "rate", FLAG_TEXT, &o.rate, "BYTES", "verify: read at most so much a second: 50M" },
        { "dry-run", FLAG_BOOL, &o.dry_run, NULL, "gc: only say what would go" },
        { "grace", FLAG_DURATION, &o.grace_ms, "TIME", "gc: spare what was put since; 7d" },
        { "keep", FLAG_INT, &o.keep, "N", "gc: good releases of each service that stay; 5" },
        { "keep-file", FLAG_TEXT, &o.keep_file, "FILE",
          "gc: spare these artifacts, one digest a line; a bare store needs it" },
    };
    const struct verb verb = {
        "artifact ls | show ID | verify ID|--all | gc | export ID DIR",
        "What the blob store holds and who needs it; its care. An ID may be shortened. verify "
        "reads "
        "every\nbyte, moves what rotted aside and heals it if it can: exit code 5 if it cannot.",
        flags,
        COUNT_OF(flags),
        1,
        3
    };
    struct artifact_site s = { .o = &o };
    struct err err = ERR_INIT;
    struct globals g;
    int operands, code;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    s.g = &g;
    if (check(&o, argv[0], operands, &err) < 0 || open_site(&s, &err) < 0)
        code = fail(&g, &err);
    else
        code = dispatch(&s, argv);
    close_site(&s);
    free(o.from.items);
    return code;
}
