#include "region/docs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct change { /* waits to be written */
    struct list node;
    char *path;
    struct bytes bytes;
};

struct docs *docs_new(const char *region, const struct public_key *pin)
{
    struct docs *d = mem_alloc(sizeof(*d));

    d->region = mem_strdup(region);
    d->pin = *pin;
    list_init(&d->unsaved);
    return d;
}

static void goal_entry_free(struct doc_goal *g)
{
    if (g == NULL)
        return;
    goal_free(g->goal);
    free(g->doc.data);
    free(g);
}

static void release_entry_free(struct doc_release *r)
{
    if (r == NULL)
        return;
    release_free(r->release);
    free(r->doc.data);
    free(r);
}

static void change_free(struct change *c)
{
    list_remove(&c->node);
    free(c->path);
    free(c->bytes.data);
    free(c);
}

void docs_free(struct docs *d)
{
    struct map_entry *e;

    if (d == NULL)
        return;
    for (size_t i = 0; (e = map_next(&d->goals, &i)) != NULL;)
        goal_entry_free(e->value);
    for (size_t i = 0; (e = map_next(&d->releases, &i)) != NULL;)
        release_entry_free(e->value);
    LIST_EACH (&d->unsaved, n)
        change_free(CONTAINER_OF(n, struct change, node));
    map_release(&d->goals);
    map_release(&d->releases);
    trust_free(d->trust);
    free(d->trust_doc.data);
    free(d->region);
    free(d);
}

static struct bytes bytes_copy(const struct bytes *b)
{
    return (struct bytes){ mem_dup(b->data, b->len), b->len };
}

/* Takes path; bytes NULL: remove. An earlier change of the same file is replaced. */
static void save(struct docs *d, char *path, const struct bytes *bytes)
{
    struct change *c = mem_alloc(sizeof(*c));

    LIST_EACH (&d->unsaved, n) {
        struct change *old = CONTAINER_OF(n, struct change, node);

        if (strcmp(old->path, path) == 0)
            change_free(old);
    }
    c->path = path;
    if (bytes != NULL)
        c->bytes = bytes_copy(bytes);
    list_push(&d->unsaved, &c->node);
}

bool docs_unsaved(struct docs *d, char **ret_name, struct bytes *ret_bytes)
{
    struct change *c;

    if (list_empty(&d->unsaved))
        return false;
    c = CONTAINER_OF(d->unsaved.next, struct change, node);
    *ret_name = c->path;
    *ret_bytes = c->bytes;
    list_remove(&c->node);
    free(c);
    return true;
}

static char *goal_path(const char *service)
{
    return mem_printf("goals/%s.doc", service);
}

static char *release_path(const struct hash *release)
{
    char hex[HASH_HEX];

    return mem_printf("releases/%s.doc", hash_hex(release, hex));
}

const struct doc_goal *docs_goal(const struct docs *d, const char *service)
{
    return map_get(&d->goals, service);
}

const struct doc_release *docs_release(const struct docs *d, const struct hash *release)
{
    char hex[HASH_HEX];

    return map_get(&d->releases, hash_hex(release, hex));
}

bool docs_is_denied(const struct docs *d, const char *id)
{
    for (size_t i = 0; d->trust != NULL && i < d->trust->ndeny; i++) {
        if (strcmp(d->trust->deny[i], id) == 0)
            return true;
    }
    return false;
}

bool docs_names_release(const struct docs *d, const struct hash *release)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&d->goals, &i)) != NULL;) {
        const struct goal *g = ((const struct doc_goal *)e->value)->goal;

        if (hash_equal(&g->release, release) || hash_equal(&g->rollback_to, release))
            return true;
    }
    return false;
}

static bool release_has(const struct docs *d, const struct hash *release,
                        const struct hash *artifact)
{
    const struct doc_release *doc = hash_is_zero(release) ? NULL : docs_release(d, release);

    for (size_t i = 0; doc != NULL && i < doc->release->nartifacts; i++) {
        if (hash_equal(&doc->release->artifacts[i].artifact, artifact))
            return true;
    }
    return false;
}

bool docs_goal_names_artifact(const struct docs *d, const struct goal *g,
                              const struct hash *artifact)
{
    return release_has(d, &g->release, artifact) || release_has(d, &g->rollback_to, artifact);
}

bool docs_names_artifact(const struct docs *d, const struct hash *artifact)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&d->goals, &i)) != NULL;) {
        if (docs_goal_names_artifact(d, ((const struct doc_goal *)e->value)->goal, artifact))
            return true;
    }
    return false;
}

void docs_drop_release(struct docs *d, const struct hash *release)
{
    char hex[HASH_HEX];
    struct doc_release *entry;

    if (hash_is_zero(release) || docs_names_release(d, release))
        return;
    entry = map_remove(&d->releases, hash_hex(release, hex));
    if (entry == NULL)
        return;
    release_entry_free(entry);
    save(d, release_path(release), NULL);
}

/* With new keys or a longer deny list, what was accepted before may not be acceptable any more. */
static void recheck(struct docs *d)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&d->releases, &i)) != NULL;) {
        struct doc_release *entry = e->value;
        struct release *again = NULL;

        if (release_open(&again, d->trust, entry->doc.data, entry->doc.len, NULL) == 0) {
            release_free(again);
            continue;
        }
        save(d, release_path(&entry->release->id), NULL);
        map_remove(&d->releases, e->key);
        release_entry_free(entry);
    }
    for (size_t i = 0; (e = map_next(&d->goals, &i)) != NULL;) {
        struct doc_goal *entry = e->value;
        struct goal *again = NULL;

        if (goal_open(&again, d->trust, entry->doc.data, entry->doc.len, NULL) == 0) {
            goal_free(again);
            continue;
        }
        save(d, goal_path(entry->goal->service), NULL);
        map_remove(&d->goals, e->key);
        goal_entry_free(entry);
    }
}

static bool same_bytes(const struct bytes *a, const struct bytes *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

static int accept_trust(struct docs *d, const struct bytes *doc, bool to_disk,
                        struct docs_change *ret, struct err *err)
{
    struct trust *trust = NULL;
    int r;

    if (d->trust != NULL && same_bytes(&d->trust_doc, doc))
        return 0;
    r = trust_open(&trust, d->trust, &d->pin, doc->data, doc->len, err);
    if (r < 0)
        return r;
    trust_free(d->trust);
    free(d->trust_doc.data);
    d->trust = trust;
    d->trust_doc = bytes_copy(doc);
    if (to_disk)
        save(d, mem_strdup("trust.doc"), doc);
    recheck(d);
    ret->changed = true;
    return 0;
}

static int accept_release(struct docs *d, const struct bytes *doc, bool to_disk,
                          struct docs_change *ret, struct err *err)
{
    struct release *release = NULL;
    struct doc_release *entry;
    char hex[HASH_HEX];
    int r;

    ret->release = sha256_of(doc->data, doc->len);
    if (docs_release(d, &ret->release) != NULL)
        return 0;
    r = release_open(&release, d->trust, doc->data, doc->len, err);
    if (r < 0)
        return r;
    entry = mem_alloc(sizeof(*entry));
    *entry = (struct doc_release){ release, bytes_copy(doc) };
    map_put(&d->releases, hash_hex(&release->id, hex), entry);
    if (to_disk)
        save(d, release_path(&release->id), doc);
    ret->changed = true;
    return 0;
}

/* Is the new goal acceptable beside the one we have? *ret_same: it is that one. */
static int check_goal(const struct docs *d, const struct goal *g, const struct hash *digest,
                      bool *ret_same, struct err *err)
{
    const struct doc_goal *old = docs_goal(d, g->service);

    *ret_same = false;
    if (strcmp(g->region, d->region) != 0)
        return err_set(err, ERR_DENIED, "goal of %s: is of region %s, not of %s", g->service,
                       g->region, d->region);
    if (old == NULL)
        return 0;
    if (g->generation < old->goal->generation)
        return err_set(err, ERR_FENCED, "goal of %s: generation %llu is older than %llu",
                       g->service, (unsigned long long)g->generation,
                       (unsigned long long)old->goal->generation);
    *ret_same = hash_equal(digest, &old->digest);
    if (g->generation == old->goal->generation && !*ret_same)
        return err_set(err, ERR_CONFLICT, "goal of %s: another one of generation %llu", g->service,
                       (unsigned long long)g->generation);
    return 0;
}

static int accept_goal(struct docs *d, const struct bytes *doc, bool to_disk,
                       struct docs_change *ret, struct err *err)
{
    struct hash digest = sha256_of(doc->data, doc->len);
    struct goal *goal = NULL;
    struct doc_goal *entry, *old;
    bool same = false;
    int r = goal_open(&goal, d->trust, doc->data, doc->len, err);

    if (r == 0)
        r = check_goal(d, goal, &digest, &same, err);
    if (r < 0 || same) {
        if (same)
            ret->goal = docs_goal(d, goal->service);
        goal_free(goal);
        return r;
    }
    entry = mem_alloc(sizeof(*entry));
    *entry = (struct doc_goal){ goal, bytes_copy(doc), digest };
    old = map_put(&d->goals, goal->service, entry);
    if (to_disk)
        save(d, goal_path(goal->service), doc);
    if (old != NULL) {
        docs_drop_release(d, &old->goal->release);
        docs_drop_release(d, &old->goal->rollback_to);
        goal_entry_free(old);
    }
    ret->changed = true;
    ret->goal = entry;
    return 0;
}

int docs_accept(struct docs *d, const struct msg_doc *doc, bool to_disk, struct docs_change *ret,
                struct err *err)
{
    *ret = (struct docs_change){ .changed = false };
    if (doc->kind == DOC_TRUST)
        return accept_trust(d, &doc->bytes, to_disk, ret, err);
    if (doc->kind != DOC_RELEASE && doc->kind != DOC_GOAL)
        return err_set(err, ERR_INVALID, "document of unknown kind %u", doc->kind);
    if (d->trust == NULL)
        return err_set(err, ERR_DENIED, "document came before the trust document");
    if (doc->kind == DOC_RELEASE)
        return accept_release(d, &doc->bytes, to_disk, ret, err);
    return accept_goal(d, &doc->bytes, to_disk, ret, err);
}
