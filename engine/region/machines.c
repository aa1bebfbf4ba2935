#include "region/machines.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "region/counts.h"
#include "swarm/figures.h"
#include "wire/doc.h"

void *msg_copy(enum msg_type type, const void *msg)
{
    AUTO_BUF bytes = BUF_INIT;
    struct err err = ERR_INIT;
    void *copy = NULL;

    if (codec_encode(&bytes, msg_codec(type), msg, &err) < 0 ||
        codec_decode(&copy, msg_codec(type), bytes.data, bytes.len, &err) < 0)
        abort(); /* what a codec decoded, it encodes */
    return copy;
}

struct machines *machines_new(const char *region)
{
    struct machines *ms = mem_alloc(sizeof(*ms));

    ms->region = mem_strdup(region);
    list_init(&ms->unsaved);
    return ms;
}

static void service_release(struct machine_service *v)
{
    codec_free(msg_codec(MSG_REPORT), v->report);
    for (size_t i = 0; i < MACHINE_PROGRESS; i++)
        codec_free(msg_codec(MSG_PROGRESS), v->progress[i]);
    free(v->moved);
    free(v->name);
}

static void machine_free(struct machine *m)
{
    for (size_t i = 0; i < m->nservices; i++)
        service_release(&m->services[i]);
    free(m->services);
    free(m->labels);
    codec_free(msg_codec(MSG_MACHINE), m->self);
    free(m->id);
    free(m);
}

void machines_free(struct machines *ms)
{
    if (ms == NULL)
        return;
    for (size_t i = 0; i < ms->nplans; i++)
        count_plan_free(ms->plans[i]);
    free(ms->plans);
    for (size_t i = 0; i < ms->count; i++)
        machine_free(ms->all[i]);
    free(ms->all);
    map_release(&ms->by_id);
    running_release(&ms->running);
    free(ms->region);
    free(ms);
}

struct machine *machines_find(const struct machines *ms, const char *id)
{
    return map_get(&ms->by_id, id);
}

static void dirty_all(struct machines *ms)
{
    for (size_t i = 0; i < ms->nplans; i++)
        ms->plans[i]->dirty = true;
}

void machines_touch(struct machines *ms, const char *service)
{
    for (size_t i = 0; i < ms->nplans; i++) {
        if (strcmp(ms->plans[i]->service, service) == 0)
            ms->plans[i]->dirty = true;
    }
}

static void unsaved(struct machines *ms, struct machine *m)
{
    list_remove(&m->node);
    list_push(&ms->unsaved, &m->node);
}

static void set_reachable(struct machines *ms, struct machine *m, bool reachable)
{
    if (m->reachable == reachable)
        return;
    m->reachable = reachable;
    ms->nreachable += reachable ? 1 : (size_t)-1;
    dirty_all(ms);
}

static struct machine_service *service_at(struct machine *m, const char *name)
{
    for (size_t i = 0; i < m->nservices; i++) {
        if (strcmp(m->services[i].name, name) == 0)
            return &m->services[i];
    }
    return NULL;
}

const struct machine_service *machine_service(const struct machine *m, const char *name)
{
    for (size_t i = 0; i < m->nservices; i++) {
        if (strcmp(m->services[i].name, name) == 0)
            return &m->services[i];
    }
    return NULL;
}

static struct machine_service *service_make(struct machine *m, const char *name)
{
    struct machine_service *v = service_at(m, name);

    if (v != NULL)
        return v;
    VEC_GROW(m->services, m->nservices, m->cap);
    v = &m->services[m->nservices++];
    *v = (struct machine_service){ .name = mem_strdup(name) };
    return v;
}

const char *machine_label(const struct machine *m, const char *key)
{
    for (size_t i = 0; i < m->nlabels; i++) {
        if (strcmp(m->labels[i].key, key) == 0)
            return m->labels[i].value;
    }
    return NULL;
}

bool machine_runs(const struct machine *m, const char *service)
{
    const struct machine_service *v = machine_service(m, service);

    return v != NULL && !hash_is_zero(&v->runs);
}

static bool is_ours(const char *key)
{
    return strcmp(key, "region") == 0 || strcmp(key, "machine") == 0;
}

static int check_hello(const struct msg_machine *hello, struct err *err)
{
    const struct msg_label *labels = hello->labels.items;
    const struct msg_service *services = hello->services.items;

    for (size_t i = 0; i < hello->labels.count; i++) {
        if (labels[i].key[0] == '\0')
            return err_set(err, ERR_INVALID, "label %zu has no key", i);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(labels[i].key, labels[k].key) == 0)
                return err_set(err, ERR_INVALID, "label %s: twice", labels[i].key);
        }
    }
    for (size_t i = 0; i < hello->services.count; i++) {
        if (doc_check_name("service", services[i].service, err) < 0)
            return -(int)ERR_INVALID;
    }
    return 0;
}

static bool same_labels(const struct msg_machine *a, const struct msg_machine *b)
{
    const struct msg_label *x = a->labels.items, *y = b->labels.items;

    if (a->labels.count != b->labels.count)
        return false;
    for (size_t i = 0; i < a->labels.count; i++) {
        if (strcmp(x[i].key, y[i].key) != 0 || strcmp(x[i].value, y[i].value) != 0)
            return false;
    }
    return true;
}

static void set_labels(struct machines *ms, struct machine *m)
{
    const struct msg_label *said = m->self->labels.items;

    free(m->labels);
    m->labels = mem_calloc(m->self->labels.count + 2, sizeof(*m->labels));
    m->nlabels = 0;
    m->labels[m->nlabels++] = (struct label){ "machine", m->id };
    m->labels[m->nlabels++] = (struct label){ "region", ms->region };
    for (size_t i = 0; i < m->self->labels.count; i++) {
        if (!is_ours(said[i].key))
            m->labels[m->nlabels++] = (struct label){ said[i].key, said[i].value };
    }
}

/* Takes over what it says of itself; the texts of the labels move with it. */
static void set_self(struct machines *ms, struct machine *m, const struct msg_machine *self)
{
    struct msg_machine *old = m->self;
    bool same = old != NULL && same_labels(old, self);

    m->self = msg_copy(MSG_MACHINE, self);
    set_labels(ms, m);
    codec_free(msg_codec(MSG_MACHINE), old);
    if (same)
        return;
    m->epoch++;
    dirty_all(ms);
}

static struct machine *machine_new(struct machines *ms, const char *id)
{
    struct machine *m = mem_alloc(sizeof(*m));

    m->id = mem_strdup(id);
    list_init(&m->node);
    VEC_GROW(ms->all, ms->count, ms->cap);
    m->at = ms->count;
    ms->all[ms->count++] = m;
    map_put(&ms->by_id, m->id, m);
    return m;
}

static int find_or_make(struct machines *ms, const char *id, const struct msg_machine *self,
                        struct machine **ret, struct err *err)
{
    struct machine *m = machines_find(ms, id);

    if (check_hello(self, err) < 0)
        return err_wrap(err, "machine %s", id);
    if (m == NULL && ms->count >= REGION_MACHINES_MAX)
        return err_set(err, ERR_LIMIT, "machine %s: this region has %d already", id,
                       REGION_MACHINES_MAX);
    if (m == NULL)
        m = machine_new(ms, id);
    set_self(ms, m, self);
    *ret = m;
    return 0;
}

/* A machine that names others each time it comes is heard of the first ones only. */
static bool has_room(const struct machine *m)
{
    return m->nservices < MACHINE_SERVICES_MAX;
}

static void set_runs_of(struct machines *ms, struct machine_service *v, const struct hash *release)
{
    running_move(&ms->running, v->name, &v->runs, release);
    v->runs = *release;
}

/* Which services run: those that it names, and no others. */
static void set_runs(struct machines *ms, struct machine *m)
{
    const struct msg_service *said = m->self->services.items;
    const struct hash nothing = { { 0 } };
    size_t known = m->nservices;

    for (size_t i = 0; i < known; i++) {
        const struct hash *release = &nothing;

        for (size_t k = 0; k < m->self->services.count; k++) {
            if (strcmp(said[k].service, m->services[i].name) == 0)
                release = &said[k].release;
        }
        set_runs_of(ms, &m->services[i], release);
    }
    for (size_t k = 0; k < m->self->services.count; k++) {
        if (service_at(m, said[k].service) != NULL || has_room(m))
            set_runs_of(ms, service_make(m, said[k].service), &said[k].release);
    }
    for (size_t i = 0; i < m->nservices; i++)
        machines_touch(ms, m->services[i].name);
}

int machines_hello(struct machines *ms, const char *id, const struct msg_machine *hello,
                   int64_t now_ms, struct machine **ret, struct err *err)
{
    struct machine *m = NULL;
    int r = find_or_make(ms, id, hello, &m, err);

    if (r < 0)
        return r;
    ms->nlinked += !m->linked;
    m->linked = true;
    m->seen_ms = now_ms;
    set_reachable(ms, m, true);
    set_runs(ms, m);
    m->unsaved = true;
    unsaved(ms, m);
    *ret = m;
    return 0;
}

void machines_lost(struct machines *ms, struct machine *m, int64_t now_ms)
{
    if (!m->linked)
        return;
    m->linked = false;
    ms->nlinked--;
    m->seen_ms = now_ms;
    m->unsaved = true;
    unsaved(ms, m);
}

int machines_restore(struct machines *ms, const char *id, const struct msg_machine *self,
                     int64_t seen_ms, int64_t now_ms, struct machine **ret, struct err *err)
{
    int r = find_or_make(ms, id, self, ret, err);

    if (r < 0)
        return r;
    set_runs(ms, *ret);
    (*ret)->seen_ms = seen_ms;
    set_reachable(ms, *ret, now_ms - seen_ms < REGION_REACHABLE_MS);
    return 0;
}

/* Has this report's machine switched to the report's release? */
static bool has_switched(const struct msg_report *r)
{
    return r->phase == PHASE_ACTIVATED || r->phase == PHASE_HEALTHY ||
           (r->phase == PHASE_FAILED && !report_failed_staging(r));
}

static void note_moved(struct machines *ms, struct machine_service *v)
{
    const struct msg_report *r = v->report;

    for (size_t i = 0; i < ms->nplans; i++) {
        const struct count_plan *p = ms->plans[i];

        if (strcmp(p->service, v->name) != 0 || strcmp(p->deployment, r->deployment) != 0 ||
            !hash_equal(&p->release, &r->release) || !has_switched(r))
            continue;
        free(v->moved);
        v->moved = mem_strdup(r->deployment);
    }
}

void machines_restore_report(struct machines *ms, struct machine *m, const char *service,
                             const struct hash *runs, const struct msg_report *report,
                             const char *moved)
{
    struct machine_service *v = service_make(m, service);

    set_runs_of(ms, v, runs);
    codec_free(msg_codec(MSG_REPORT), v->report);
    v->report = report == NULL ? NULL : msg_copy(MSG_REPORT, report);
    v->remembered = true;
    free(v->moved);
    v->moved = moved == NULL || moved[0] == '\0' ? NULL : mem_strdup(moved);
    machines_touch(ms, service);
}

static int check_report(const struct machine *m, const struct msg_report *r, struct err *err)
{
    const struct machine_service *v = machine_service(m, r->service);

    if (doc_check_name("service", r->service, err) < 0)
        return -(int)ERR_INVALID;
    if (v == NULL && !has_room(m))
        return err_set(err, ERR_LIMIT, "more than %d services", MACHINE_SERVICES_MAX);
    if (strcmp(r->boot, m->self->boot) != 0)
        return err_set(err, ERR_FENCED, "report of another boot");
    if (v != NULL && v->report != NULL && r->generation < v->report->generation)
        return err_set(err, ERR_FENCED, "report of generation %llu after one of %llu",
                       (unsigned long long)r->generation,
                       (unsigned long long)v->report->generation);
    return 0;
}

int machines_report(struct machines *ms, struct machine *m, const struct msg_report *r,
                    struct err *err)
{
    struct machine_service *v;
    int status = check_report(m, r, err);

    if (status < 0)
        return err_wrap(err, "machine %s: service %s", m->id, r->service);
    v = service_make(m, r->service);
    codec_free(msg_codec(MSG_REPORT), v->report);
    v->report = msg_copy(MSG_REPORT, r);
    v->remembered = false;
    if (r->phase == PHASE_STOPPED)
        set_runs_of(ms, v, &(struct hash){ { 0 } });
    else if (has_switched(r))
        set_runs_of(ms, v, &r->release);
    note_moved(ms, v);
    v->unsaved = true;
    unsaved(ms, m);
    machines_touch(ms, r->service);
    return 0;
}

/* Who accuses strangers, or itself, tells nothing. */
static void keep_known_only(const struct machines *ms, const struct machine *m,
                            struct msg_progress *p)
{
    struct msg_fetch *f = p->fetch.items;
    struct msg_banned *banned = p->fetch.count == 0 ? NULL : f->banned.items;
    size_t n = 0;

    for (size_t i = 0; banned != NULL && i < f->banned.count; i++) {
        if (strcmp(banned[i].machine, m->id) == 0 || machines_find(ms, banned[i].machine) == NULL)
            free(banned[i].machine);
        else
            banned[n++] = banned[i];
    }
    if (banned != NULL)
        f->banned.count = n;
}

static bool is_of(const struct msg_progress *p, const char *deployment)
{
    return p != NULL && strcmp(p->deployment, deployment) == 0;
}

const struct msg_progress *machine_progress(const struct machine_service *v, const char *deployment)
{
    for (size_t i = 0; i < MACHINE_PROGRESS; i++) {
        if (is_of(v->progress[i], deployment))
            return v->progress[i];
    }
    return NULL;
}

static void set_progress(const struct machines *ms, const struct machine *m,
                         struct machine_service *v, const struct msg_progress *p,
                         uint64_t limit_bytes)
{
    size_t i = 0;

    while (i + 1 < MACHINE_PROGRESS && !is_of(v->progress[i], p->deployment))
        i++;
    codec_free(msg_codec(MSG_PROGRESS), v->progress[i]);
    memmove(&v->progress[1], &v->progress[0], i * sizeof(*v->progress));
    v->progress[0] = msg_copy(MSG_PROGRESS, p);
    keep_known_only(ms, m, v->progress[0]);
    figures_cut(v->progress[0], limit_bytes);
}

int machines_progress(struct machines *ms, struct machine *m, const struct msg_progress *p,
                      uint64_t limit_bytes, struct err *err)
{
    struct machine_service *v = service_at(m, p->service);

    if (doc_check_name("service", p->service, err) < 0)
        return err_wrap(err, "machine %s: progress", m->id);
    if (v == NULL && !has_room(m))
        return err_set(err, ERR_LIMIT, "machine %s: more than %d services", m->id,
                       2 * SERVICES_MAX);
    if (v == NULL)
        v = service_make(m, p->service);
    machines_touch(ms, p->service);
    if (figures_check(p, limit_bytes, err) < 0) {
        v->refused++;
        return err_wrap(err, "machine %s: service %s", m->id, p->service);
    }
    if (machine_progress(v, p->deployment) == NULL)
        v->refused = 0; /* it begins anew */
    set_progress(ms, m, v, p, limit_bytes);
    /* While it fetches it tells again after a restart; what has ended it may be too far away to tell. */
    if (p->fetch.count > 0 && ((const struct msg_fetch *)p->fetch.items)->done) {
        v->progress_unsaved = true;
        unsaved(ms, m);
    }
    return 0;
}

void machines_restore_progress(struct machines *ms, struct machine *m, const struct msg_progress *p)
{
    struct err err = ERR_INIT;

    if (figures_check(p, 0, &err) < 0)
        return;
    set_progress(ms, m, service_make(m, p->service), p, 0);
    machines_touch(ms, p->service);
}

void machines_tick(struct machines *ms, int64_t now_ms)
{
    if (ms->nreachable == ms->nlinked)
        return;
    for (size_t i = 0; i < ms->count; i++) {
        struct machine *m = ms->all[i];

        if (!m->linked && m->reachable && now_ms - m->seen_ms >= REGION_REACHABLE_MS)
            set_reachable(ms, m, false);
    }
}

static void drop_plan(struct machines *ms, size_t i)
{
    count_plan_free(ms->plans[i]);
    memmove(&ms->plans[i], &ms->plans[i + 1], (ms->nplans - i - 1) * sizeof(*ms->plans));
    ms->nplans--;
}

/* Room for one more of this service: its oldest goes, and if there are too many of all services,
 * the oldest of all. */
static void make_room(struct machines *ms, const char *service)
{
    size_t n = 0, oldest = 0;

    for (size_t i = ms->nplans; i-- > 0;) {
        if (strcmp(ms->plans[i]->service, service) == 0) {
            n++;
            oldest = i;
        }
    }
    if (n >= REGION_SERVICE_PLANS_MAX)
        drop_plan(ms, oldest);
    else if (ms->nplans >= REGION_PLANS_MAX)
        drop_plan(ms, 0);
}

int machines_plan(struct machines *ms, const struct msg_plan *msg, struct err *err)
{
    struct count_plan *plan = NULL;
    int r = count_plan_new(&plan, msg, err);

    if (r < 0)
        return err_wrap(err, "plan of %s", msg->deployment);
    for (size_t i = 0; i < ms->nplans; i++) {
        if (strcmp(ms->plans[i]->deployment, plan->deployment) == 0) {
            plan->named = ms->plans[i]->named;
            drop_plan(ms, i);
            break;
        }
    }
    make_room(ms, plan->service);
    VEC_GROW(ms->plans, ms->nplans, ms->plans_cap);
    ms->plans[ms->nplans++] = plan;
    for (size_t i = 0; i < ms->count; i++) {
        struct machine_service *v = service_at(ms->all[i], plan->service);

        if (v != NULL && v->report != NULL)
            note_moved(ms, v);
    }
    return 0;
}
