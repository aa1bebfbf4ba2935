#include "goals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "base/hex.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/files.h"

enum { FLOOR_FILE_MAX = 256 };

/* One service: the goal in force, and the newest generation ever accepted. */
struct kept {
    char *service;
    uint64_t floor;
    struct hash digest; /* of the goal document of that generation */
    struct goal *goal;  /* NULL: none in force (removed, or could not be read again) */
    char *refusal;      /* the last one since the last accepted goal, or NULL */
};

struct known_release {
    struct list node;
    struct release *release;
    struct bytes doc;
};

struct goals {
    char *root, *machine, *region;
    struct public_key pin;
    struct label labels[AGENT_LABELS_MAX + 2];
    size_t nlabels;
    struct trust *trust;
    struct hash trust_digest;
    struct map services; /* struct kept */
    struct list releases;
    size_t nreleases;
    int64_t newest_signed_ms;
    uint64_t refused[REFUSED_END];
};

static char *doc_path(const struct goals *g, const char *service)
{
    return mem_printf("%s/goals/%s.doc", g->root, service);
}

static char *floor_path(const struct goals *g, const char *service)
{
    return mem_printf("%s/floor/%s", g->root, service);
}

static struct kept *kept_of(const struct goals *g, const char *service)
{
    return map_get(&g->services, service);
}

static struct kept *kept_make(struct goals *g, const char *service)
{
    struct kept *k = kept_of(g, service);

    if (k == NULL) {
        k = mem_alloc(sizeof(*k));
        k->service = mem_strdup(service);
        map_put(&g->services, service, k);
    }
    return k;
}

static void kept_free(struct kept *k)
{
    goal_free(k->goal);
    free(k->service);
    free(k->refusal);
    free(k);
}

/* What is known of the machine; "region" only when it is. */
static void set_labels(struct goals *g, const struct label *labels, size_t n)
{
    for (size_t i = 0; i < n && g->nlabels < AGENT_LABELS_MAX; i++)
        g->labels[g->nlabels++] = labels[i];
    g->labels[g->nlabels++] = (struct label){ "machine", g->machine };
}

static void add_region_label(struct goals *g)
{
    for (size_t i = 0; i < g->nlabels; i++) {
        if (strcmp(g->labels[i].key, "region") == 0) {
            g->labels[i].value = g->region;
            return;
        }
    }
    g->labels[g->nlabels++] = (struct label){ "region", g->region };
}

/* --- reading what was kept --- */

/* trust.doc = the key that signed it, 64 digits, a newline, the document: after a change of the
 * root key that is the one before, which the document itself does not name. */
static int load_trust(struct goals *g, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/trust.doc", g->root);
    AUTO_BUF data = BUF_INIT;
    struct public_key signer;
    struct bytes body;
    int r;

    if (!path_exists(path))
        return 0;
    if (file_read(&data, path, DOC_MAX_BYTES + HASH_HEX, err) < 0)
        return err_wrap(err, "goals");
    if (data.len < HASH_HEX || data.data[HASH_HEX - 1] != '\n')
        return err_set(err, ERR_CORRUPT, "goals: %s: not a trust file", path);
    data.data[HASH_HEX - 1] = '\0';
    if (!hex_decode(signer.b, KEY_BYTES, data.data))
        return err_set(err, ERR_CORRUPT, "goals: %s: not a trust file", path);
    buf_consume(&data, HASH_HEX);
    r = doc_open(data.data, data.len, DOC_TRUST, &signer, 1, &body, err);
    if (r == 0)
        r = trust_parse(&g->trust, &body, err);
    if (r < 0)
        return err_wrap(err, "goals: %s", path);
    g->trust_digest = sha256_of(data.data, data.len);
    return 0;
}

static int keep_trust(struct goals *g, const struct public_key *signer, const void *data,
                      size_t len, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/trust.doc", g->root);
    AUTO_BUF out = BUF_INIT;
    char hex[HASH_HEX];

    hex_encode(hex, signer->b, KEY_BYTES);
    buf_printf(&out, "%s\n", hex);
    buf_append(&out, data, len);
    return file_publish(path, out.data, out.len, 0600, err);
}

static int load_floor(struct goals *g, const char *service, struct err *err)
{
    AUTO_FREE char *path = floor_path(g, service);
    AUTO_BUF text = BUF_INIT;
    char hex[HASH_HEX] = "";
    uint64_t floor;
    struct kept *k;
    struct hash digest;

    if (file_read(&text, path, FLOOR_FILE_MAX, err) < 0)
        return err_wrap(err, "goals");
    if (sscanf(buf_str(&text), "%" SCNu64 " %64s", &floor, hex) != 2 || !hash_parse(&digest, hex))
        return err_set(err, ERR_CORRUPT, "goals: %s: not a floor", path);
    k = kept_make(g, service);
    k->floor = floor;
    k->digest = digest;
    return 0;
}

static int keep_floor(const struct goals *g, const char *service, uint64_t floor,
                      const struct hash *digest, struct err *err)
{
    AUTO_FREE char *path = floor_path(g, service);
    AUTO_BUF text = BUF_INIT;
    char hex[HASH_HEX];

    buf_printf(&text, "%" PRIu64 " %s\n", floor, hash_hex(digest, hex));
    return file_publish(path, text.data, text.len, 0600, err);
}

static void note_signed_time(struct goals *g, int64_t issued_ms)
{
    if (issued_ms > g->newest_signed_ms)
        g->newest_signed_ms = issued_ms;
}

/* Puts the kept goal of k in force if it still holds: signed by a key of today's trust document, of
 * our region, and exactly the one that the floor names. */
static void load_goal(struct goals *g, struct kept *k)
{
    AUTO_FREE char *path = doc_path(g, k->service);
    AUTO_BUF data = BUF_INIT;
    struct err err = ERR_INIT;
    struct goal *goal = NULL;
    struct hash digest;

    goal_free(k->goal);
    k->goal = NULL;
    if (g->trust == NULL || !path_exists(path))
        return;
    if (file_read(&data, path, DOC_MAX_BYTES, &err) < 0 ||
        goal_open(&goal, g->trust, data.data, data.len, &err) < 0) {
        log_warn("kept goal of %s is not in force: %s", k->service, err.text);
        return;
    }
    digest = sha256_of(data.data, data.len);
    if (goal->generation != k->floor || !hash_equal(&digest, &k->digest) ||
        strcmp(goal->service, k->service) != 0 ||
        (g->region != NULL && strcmp(goal->region, g->region) != 0)) {
        log_warn("kept goal of %s is not in force: generation %" PRIu64 ", the floor is %" PRIu64,
                 k->service, goal->generation, k->floor);
        goal_free(goal);
        return;
    }
    note_signed_time(g, goal->issued_ms);
    k->goal = goal;
}

static void load_goals(struct goals *g)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&g->services, &i)) != NULL;)
        load_goal(g, e->value);
}

/* What file_publish() writes beside, left by a kill. No service may have such a name. */
static bool is_leftover(const char *name)
{
    return strstr(name, ".tmp-") != NULL;
}

static int floor_found(void *ctx, const char *name, struct err *err)
{
    if (is_leftover(name) || doc_check_name("service", name, NULL) < 0)
        return 0;
    return load_floor(ctx, name, err);
}

int goals_open(struct goals **ret, const struct goals_options *o, struct err *err)
{
    AUTO_FREE char *floors = mem_printf("%s/floor", o->root);
    AUTO_FREE char *docs = mem_printf("%s/goals", o->root);
    struct goals *g;

    if (dir_make(floors, 0700, err) < 0 || dir_make(docs, 0700, err) < 0)
        return err_wrap(err, "goals");
    g = mem_alloc(sizeof(*g));
    g->root = mem_strdup(o->root);
    g->machine = mem_strdup(o->machine);
    g->pin = *o->pin;
    list_init(&g->releases);
    set_labels(g, o->labels, o->nlabels);
    if (load_trust(g, err) < 0 || dir_each(floors, floor_found, g, err) < 0) {
        int code = -(int)err->code;

        goals_free(g);
        return code;
    }
    if (o->region != NULL)
        goals_set_region(g, o->region);
    load_goals(g);
    *ret = g;
    return 0;
}

static void release_forget(struct goals *g, struct known_release *known)
{
    list_remove(&known->node);
    release_free(known->release);
    free(known->doc.data);
    free(known);
    g->nreleases--;
}

static void forget_releases(struct goals *g)
{
    LIST_EACH (&g->releases, n)
        release_forget(g, CONTAINER_OF(n, struct known_release, node));
}

void goals_free(struct goals *g)
{
    struct map_entry *e;

    if (g == NULL)
        return;
    for (size_t i = 0; (e = map_next(&g->services, &i)) != NULL;)
        kept_free(e->value);
    map_release(&g->services);
    forget_releases(g);
    trust_free(g->trust);
    free(g->region);
    free(g->machine);
    free(g->root);
    free(g);
}

void goals_set_region(struct goals *g, const char *region)
{
    struct map_entry *e;

    if (g->region != NULL && strcmp(g->region, region) == 0)
        return;
    free(g->region);
    g->region = mem_strdup(region);
    add_region_label(g);
    for (size_t i = 0; (e = map_next(&g->services, &i)) != NULL;) {
        struct kept *k = e->value;

        if (k->goal != NULL && strcmp(k->goal->region, region) != 0) {
            goal_free(k->goal);
            k->goal = NULL;
        }
    }
}

/* --- taking documents --- */

static const char *const refusal_names[REFUSED_END] = {
    [REFUSED_NONE] = "none",
    [REFUSED_MALFORMED] = "malformed",
    [REFUSED_DENIED] = "denied",
    [REFUSED_REGION] = "region",
    [REFUSED_SELECT] = "select",
    [REFUSED_OLDER] = "older",
    [REFUSED_EQUIVOCATION] = "equivocation",
    [REFUSED_LIMIT] = "limit",
};

const char *goals_refusal_name(enum goals_refusal why)
{
    return why < REFUSED_END ? refusal_names[why] : "none";
}

uint64_t goals_refused(const struct goals *g, enum goals_refusal why)
{
    return why < REFUSED_END ? g->refused[why] : 0;
}

uint64_t goals_refused_all(const struct goals *g)
{
    uint64_t sum = 0;

    for (int i = 0; i < REFUSED_END; i++)
        sum += g->refused[i];
    return sum;
}

/* Counts, and keeps the text for the service's next report. */
static int refuse(struct goals *g, const char *service, enum goals_refusal why, int r,
                  struct err *err)
{
    struct kept *k = service == NULL ? NULL : kept_of(g, service);

    g->refused[why]++;
    if (k != NULL && why != REFUSED_OLDER) {
        free(k->refusal);
        k->refusal = mem_printf("refused a goal (%s): %s", refusal_names[why], err->text);
    }
    return r;
}

static enum goals_refusal refusal_of(int r)
{
    return r == -ERR_DENIED ? REFUSED_DENIED : REFUSED_MALFORMED;
}

static int take_trust(struct goals *g, const void *data, size_t len, struct goals_taken *ret,
                      struct err *err)
{
    struct hash digest = sha256_of(data, len);
    struct public_key signer = g->trust == NULL ? g->pin : g->trust->root;
    struct trust *next = NULL;
    int r;

    if (g->trust != NULL && hash_equal(&digest, &g->trust_digest))
        return 0;
    r = trust_open(&next, g->trust, &g->pin, data, len, err);
    if (r < 0)
        return refuse(g, NULL, refusal_of(r), r, err);
    if (g->trust != NULL && next->version == g->trust->version) {
        r = err_set(err, ERR_CONFLICT, "trust document: version %" PRIu64 " with other bytes",
                    next->version);
        trust_free(next);
        return refuse(g, NULL, REFUSED_EQUIVOCATION, r, err);
    }
    if (keep_trust(g, &signer, data, len, err) < 0) {
        trust_free(next);
        return err_wrap(err, "keep the trust document");
    }
    trust_free(g->trust);
    g->trust = next;
    g->trust_digest = digest;
    /* What was believed by the keys before has to hold by these. */
    forget_releases(g);
    load_goals(g);
    ret->change = GOALS_TRUST;
    return 0;
}

static struct known_release *find_release(const struct goals *g, const struct hash *id)
{
    LIST_EACH (&g->releases, n) {
        struct known_release *known = CONTAINER_OF(n, struct known_release, node);

        if (hash_equal(&known->release->id, id))
            return known;
    }
    return NULL;
}

static int take_release(struct goals *g, const void *data, size_t len, struct goals_taken *ret,
                        struct err *err)
{
    struct hash id = sha256_of(data, len);
    struct release *release = NULL;
    struct known_release *known;
    int r;

    if (find_release(g, &id) != NULL)
        return 0;
    r = release_open(&release, g->trust, data, len, err);
    if (r < 0)
        return refuse(g, NULL, refusal_of(r), r, err);
    if (g->nreleases == GOALS_RELEASES_MAX)
        release_forget(g, CONTAINER_OF(g->releases.next, struct known_release, node));
    known = mem_alloc(sizeof(*known));
    known->release = release;
    known->doc = (struct bytes){ mem_dup(data, len), len };
    list_push(&g->releases, &known->node);
    g->nreleases++;
    ret->change = GOALS_RELEASE;
    return 0;
}

/* Is it for this machine, and newer than what we have? 1: the very one that is in force. */
static int judge_goal(struct goals *g, const struct goal *goal, const struct hash *digest,
                      struct err *err)
{
    const struct kept *k = kept_of(g, goal->service);

    if (g->region == NULL || strcmp(goal->region, g->region) != 0)
        return refuse(g, goal->service, REFUSED_REGION,
                      err_set(err, ERR_DENIED, "goal of %s: is for region %s, not for %s",
                              goal->service, goal->region, g->region == NULL ? "?" : g->region),
                      err);
    if (k != NULL && goal->generation < k->floor)
        return refuse(g, goal->service, REFUSED_OLDER,
                      err_set(err, ERR_FENCED,
                              "goal of %s: generation %" PRIu64 " is older than %" PRIu64,
                              goal->service, goal->generation, k->floor),
                      err);
    if (k != NULL && goal->generation == k->floor) {
        if (hash_equal(digest, &k->digest))
            return k->goal != NULL ? 1 : 0;
        return refuse(g, goal->service, REFUSED_EQUIVOCATION,
                      err_set(err, ERR_CONFLICT,
                              "goal of %s: generation %" PRIu64 " came with two contents",
                              goal->service, goal->generation),
                      err);
    }
    if (goal->action == GOAL_RUN && !predicate_match(goal->select, g->labels, g->nlabels))
        return refuse(
            g, goal->service, REFUSED_SELECT,
            err_set(err, ERR_DENIED, "goal of %s: does not select this machine", goal->service),
            err);
    if (is_leftover(goal->service))
        return refuse(g, NULL, REFUSED_MALFORMED,
                      err_set(err, ERR_INVALID,
                              "goal of %s: a service must not have '.tmp-' in its name",
                              goal->service),
                      err);
    if (k == NULL && g->services.count >= AGENT_SERVICES_MAX)
        return refuse(g, NULL, REFUSED_LIMIT,
                      err_set(err, ERR_LIMIT, "goal of %s: there are %d services already",
                              goal->service, AGENT_SERVICES_MAX),
                      err);
    return 0;
}

static int take_goal(struct goals *g, const void *data, size_t len, struct goals_taken *ret,
                     struct err *err)
{
    struct hash digest = sha256_of(data, len);
    AUTO_FREE char *path = NULL;
    struct goal *goal = NULL;
    struct kept *k;
    int r = goal_open(&goal, g->trust, data, len, err);

    if (r < 0)
        return refuse(g, NULL, refusal_of(r), r, err);
    r = judge_goal(g, goal, &digest, err);
    if (r == 0) {
        /* The document first: if only it is there after a crash, the floor is lower and the same
         * goal is accepted again. Both are on disk before anyone can act. */
        path = doc_path(g, goal->service);
        r = file_publish(path, data, len, 0600, err);
    }
    if (r == 0)
        r = keep_floor(g, goal->service, goal->generation, &digest, err);
    if (r != 0) {
        goal_free(goal);
        return r < 0 ? r : 0;
    }
    k = kept_make(g, goal->service);
    k->floor = goal->generation;
    k->digest = digest;
    goal_free(k->goal);
    k->goal = goal;
    free(k->refusal);
    k->refusal = NULL;
    note_signed_time(g, goal->issued_ms);
    *ret = (struct goals_taken){ GOALS_GOAL, k->service };
    return 0;
}

int goals_take(struct goals *g, enum doc_kind kind, const void *data, size_t len,
               struct goals_taken *ret, struct err *err)
{
    *ret = (struct goals_taken){ GOALS_SAME, NULL };
    if (kind == DOC_TRUST)
        return take_trust(g, data, len, ret, err);
    if (kind != DOC_RELEASE && kind != DOC_GOAL)
        return refuse(g, NULL, REFUSED_MALFORMED,
                      err_set(err, ERR_INVALID, "document: unknown kind %d", (int)kind), err);
    if (g->trust == NULL)
        return refuse(g, NULL, REFUSED_DENIED,
                      err_set(err, ERR_DENIED, "document: there is no trust document yet"), err);
    if (kind == DOC_RELEASE)
        return take_release(g, data, len, ret, err);
    return take_goal(g, data, len, ret, err);
}

/* --- asking --- */

const struct trust *goals_trust(const struct goals *g)
{
    return g->trust;
}

const struct goal *goals_of(const struct goals *g, const char *service)
{
    const struct kept *k = kept_of(g, service);

    return k == NULL ? NULL : k->goal;
}

const struct goal *goals_next(const struct goals *g, size_t *i)
{
    struct map_entry *e;

    while ((e = map_next(&g->services, i)) != NULL) {
        const struct kept *k = e->value;

        if (k->goal != NULL)
            return k->goal;
    }
    return NULL;
}

uint64_t goals_floor(const struct goals *g, const char *service)
{
    const struct kept *k = kept_of(g, service);

    return k == NULL ? 0 : k->floor;
}

const char *goals_last_refusal(const struct goals *g, const char *service)
{
    const struct kept *k = kept_of(g, service);

    return k == NULL || k->refusal == NULL ? "" : k->refusal;
}

bool goals_is_live(const struct goals *g, const struct goal *goal, int64_t wall_now_ms)
{
    int64_t now = wall_now_ms > g->newest_signed_ms ? wall_now_ms : g->newest_signed_ms;

    return now < goal->expires_ms;
}

bool goals_stages(const struct goals *g, const struct goal *goal)
{
    return goal_stages(goal, g->machine, g->labels, g->nlabels);
}

bool goals_activates(const struct goals *g, const struct goal *goal)
{
    return goal_activates(goal, g->machine, g->labels, g->nlabels);
}

const char *goals_variant(const struct goals *g, const struct release *r)
{
    return variant_of(r->variant, g->labels, g->nlabels);
}

const struct release *goals_release(const struct goals *g, const struct hash *id)
{
    const struct known_release *known = find_release(g, id);

    return known == NULL ? NULL : known->release;
}

const struct bytes *goals_release_doc(const struct goals *g, const struct hash *id)
{
    const struct known_release *known = find_release(g, id);

    return known == NULL ? NULL : &known->doc;
}
