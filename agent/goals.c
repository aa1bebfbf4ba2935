#include "goals.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "goals_internal.h"
#include "io/files.h"

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
    if (o->region != NULL)
        goals_set_region(g, o->region);
    if (goals_load(g, err) < 0) {
        int code = -(int)err->code;

        goals_free(g);
        return code;
    }
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

/* The trust document has changed: what was believed by the keys before has to hold by these. */
static void check_releases(struct goals *g)
{
    LIST_EACH (&g->releases, n) {
        struct known_release *known = CONTAINER_OF(n, struct known_release, node);
        struct release *again = NULL;

        if (release_open(&again, g->trust, known->doc.data, known->doc.len, NULL) < 0) {
            release_forget(g, known);
            continue;
        }
        release_free(known->release);
        known->release = again;
    }
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
    struct kept *k = service == NULL ? NULL : goals_kept(g, service);

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
    if (goals_keep_trust(g, &signer, data, len, err) < 0) {
        trust_free(next);
        return err_wrap(err, "keep the trust document");
    }
    trust_free(g->trust);
    g->trust = next;
    g->trust_digest = digest;
    check_releases(g);
    goals_load_goals(g);
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
    const struct kept *k = goals_kept(g, goal->service);

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
    if (goals_is_leftover(goal->service))
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
        path = goals_doc_path(g, goal->service);
        r = file_publish(path, data, len, 0600, err);
    }
    if (r == 0)
        r = goals_keep_floor(g, goal->service, goal->generation, &digest, err);
    if (r != 0) {
        goal_free(goal);
        return r < 0 ? r : 0;
    }
    k = goals_kept_make(g, goal->service);
    k->floor = goal->generation;
    k->digest = digest;
    goal_free(k->goal);
    k->goal = goal;
    free(k->refusal);
    k->refusal = NULL;
    goals_note_signed_time(g, goal->issued_ms);
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

bool goals_denies(const struct goals *g, const char *id)
{
    for (size_t i = 0; g->trust != NULL && i < g->trust->ndeny; i++) {
        if (strcmp(g->trust->deny[i], id) == 0)
            return true;
    }
    return false;
}

const struct goal *goals_of(const struct goals *g, const char *service)
{
    const struct kept *k = goals_kept(g, service);

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
    const struct kept *k = goals_kept(g, service);

    return k == NULL ? 0 : k->floor;
}

const char *goals_last_refusal(const struct goals *g, const char *service)
{
    const struct kept *k = goals_kept(g, service);

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
