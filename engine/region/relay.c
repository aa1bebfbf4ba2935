#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "region/node.h"

static bool send_doc(struct session *s, enum doc_kind kind, const struct bytes *doc)
{
    struct msg_doc msg = { (uint8_t)kind, *doc };

    return session_send(s, MSG_DOC, &msg);
}

static bool send_trust(struct session *s)
{
    const struct docs *d = s->r->docs;

    if (d->trust == NULL || s->trust_version == d->trust->version)
        return true;
    if (!send_doc(s, DOC_TRUST, &d->trust_doc))
        return false;
    s->trust_version = d->trust->version;
    return true;
}

static struct sent_source *sent_source(struct session *s, const struct hash *release)
{
    for (size_t i = 0; i < s->nsources; i++) {
        if (hash_equal(&s->sources[i].release, release))
            return &s->sources[i];
    }
    return NULL;
}

static struct sent_goal *sent_goal(struct session *s, const char *service)
{
    for (size_t i = 0; i < s->ngoals; i++) {
        if (strcmp(s->goals[i].service, service) == 0)
            return &s->goals[i];
    }
    VEC_GROW(s->goals, s->ngoals, s->goals_cap);
    s->goals[s->ngoals] = (struct sent_goal){ mem_strdup(service), 0 };
    return &s->goals[s->ngoals++];
}

/* The artifact of the machine's variant, or NULL. */
static const struct release_artifact *artifact_for(const struct release *release,
                                                   const struct machine *m)
{
    const char *variant = variant_of(release->variant, m->labels, m->nlabels);

    for (size_t i = 0; variant != NULL && i < release->nartifacts; i++) {
        if (strcmp(release->artifacts[i].variant, variant) == 0)
            return &release->artifacts[i];
    }
    return NULL;
}

/* Which packs carry the release's artifact: told once there is a pack, and when there are more. */
static bool send_sources(struct session *s, const struct release *release, struct sent_source *sent)
{
    const struct release_artifact *a = artifact_for(release, s->machine);
    struct hash packs[PACKS_MAX]; /* a struct msg_pack is a hash */
    struct msg_sources msg = { .service = release->service, .release = release->id };
    struct hash digest;

    if (a == NULL)
        return true;
    msg.artifact = a->artifact;
    msg.packs = (struct list_of){ packs, replicas_packs(s->r->replicas, &a->artifact, packs) };
    if (msg.packs.count == 0)
        return true;
    digest = sha256_of(packs, msg.packs.count * sizeof(*packs));
    if (hash_equal(&digest, &sent->digest))
        return true;
    if (!session_send(s, MSG_SOURCES, &msg))
        return false;
    sent->digest = digest;
    return true;
}

/* False: the buffer is full. A release that we do not have is told when it comes. */
static bool send_release(struct session *s, const struct hash *release)
{
    const struct doc_release *doc =
        hash_is_zero(release) ? NULL : docs_release(s->r->docs, release);
    struct sent_source *sent;

    if (doc == NULL)
        return true;
    sent = sent_source(s, release);
    if (sent == NULL) {
        if (!send_doc(s, DOC_RELEASE, &doc->doc))
            return false;
        if (s->nsources == REGION_SOURCES_KEPT) /* the oldest would be told again, at worst */
            memmove(s->sources, s->sources + 1, --s->nsources * sizeof(*s->sources));
        VEC_GROW(s->sources, s->nsources, s->sources_cap);
        sent = &s->sources[s->nsources++];
        *sent = (struct sent_source){ .release = *release };
    }
    return send_sources(s, doc->release, sent);
}

static bool concerns(const struct goal *g, const struct machine *m)
{
    const struct machine_service *v;

    if (predicate_match(g->select, m->labels, m->nlabels))
        return true;
    if (g->action != GOAL_ABSENT)
        return false;
    v = machine_service(m, g->service);
    return machine_runs(m, g->service) ||
           (v != NULL && v->report != NULL && v->report->phase != PHASE_STOPPED);
}

/* Releases and sources stand before the goal that names them. */
static void relay(struct session *s, const struct doc_goal *g)
{
    const struct goal *goal = g->goal;
    struct sent_goal *sent;

    if (s->machine == NULL || s->closing || s->behind || goal->expires_ms <= wall_ms() ||
        !concerns(goal, s->machine))
        return;
    if (!send_trust(s) || !send_release(s, &goal->rollback_to) || !send_release(s, &goal->release))
        return;
    if (goal->action == GOAL_RUN && docs_release(s->r->docs, &goal->release) == NULL)
        return; /* relay_release() comes back to it */
    sent = sent_goal(s, goal->service);
    if (sent->generation < goal->generation && send_doc(s, DOC_GOAL, &g->doc))
        sent->generation = goal->generation;
}

void relay_machine(struct session *s)
{
    struct map_entry *e;

    s->behind = false;
    if (!send_trust(s))
        return;
    for (size_t i = 0; (e = map_next(&s->r->docs->goals, &i)) != NULL && !s->behind;)
        relay(s, e->value);
}

void relay_goal(struct region *r, const struct doc_goal *g)
{
    LIST_EACH (&r->sessions, n)
        relay(CONTAINER_OF(n, struct session, node), g);
}

static void relay_goals_if(struct region *r,
                           bool (*names)(const struct region *r, const struct goal *g,
                                         const struct hash *what),
                           const struct hash *what)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->docs->goals, &i)) != NULL;) {
        const struct doc_goal *g = e->value;

        if (names(r, g->goal, what))
            relay_goal(r, g);
    }
}

static bool names_release(const struct region *r, const struct goal *g, const struct hash *release)
{
    (void)r;
    return hash_equal(&g->release, release) || hash_equal(&g->rollback_to, release);
}

static bool names_artifact(const struct region *r, const struct goal *g,
                           const struct hash *artifact)
{
    return docs_goal_names_artifact(r->docs, g, artifact);
}

void relay_release(struct region *r, const struct hash *release)
{
    relay_goals_if(r, names_release, release);
}

void relay_artifact(struct region *r, const struct hash *artifact)
{
    relay_goals_if(r, names_artifact, artifact);
}

void relay_trust(struct region *r)
{
    LIST_EACH (&r->sessions, n) {
        struct session *s = CONTAINER_OF(n, struct session, node);

        if (s->machine != NULL && !s->closing && !s->behind)
            send_trust(s);
    }
}
