#include "report.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"

struct told {
    struct msg_report latest; /* texts are ours */
    bool sent;
};

struct reports {
    struct map services; /* struct told */
    int (*send)(void *ctx, enum msg_type type, const void *msg, struct err *err);
    void *ctx;
};

void reports_new(struct reports **ret,
                 int (*send)(void *ctx, enum msg_type type, const void *msg, struct err *err),
                 void *ctx)
{
    struct reports *r = mem_alloc(sizeof(*r));

    r->send = send;
    r->ctx = ctx;
    *ret = r;
}

static void told_release(struct told *t)
{
    free(t->latest.service);
    free(t->latest.deployment);
    free(t->latest.boot);
    free(t->latest.reason);
}

static void told_free(struct told *t)
{
    if (t != NULL)
        told_release(t);
    free(t);
}

void reports_free(struct reports *r)
{
    struct map_entry *e;

    if (r == NULL)
        return;
    for (size_t i = 0; (e = map_next(&r->services, &i)) != NULL;)
        told_free(e->value);
    map_release(&r->services);
    free(r);
}

static bool is_same(const struct msg_report *a, const struct msg_report *b)
{
    return strcmp(a->deployment, b->deployment) == 0 && hash_equal(&a->release, &b->release) &&
           a->generation == b->generation && a->activation == b->activation &&
           strcmp(a->boot, b->boot) == 0 && a->phase == b->phase && a->verdict == b->verdict &&
           strcmp(a->reason, b->reason) == 0;
}

static void try_send(struct reports *r, struct told *t)
{
    if (!t->sent)
        t->sent = r->send(r->ctx, MSG_REPORT, &t->latest, NULL) == 0;
}

void reports_offer(struct reports *r, const struct msg_report *report)
{
    struct told *t = map_get(&r->services, report->service);

    if (t != NULL && is_same(&t->latest, report))
        return;
    if (t == NULL) {
        t = mem_alloc(sizeof(*t));
        map_put(&r->services, report->service, t);
    } else {
        told_release(t);
    }
    t->latest = *report;
    t->latest.service = mem_strdup(report->service);
    t->latest.deployment = mem_strdup(report->deployment);
    t->latest.boot = mem_strdup(report->boot);
    t->latest.reason = mem_strdup(report->reason);
    t->sent = false;
    try_send(r, t);
}

void reports_forget(struct reports *r, const char *service)
{
    told_free(map_remove(&r->services, service));
}

void reports_flush(struct reports *r)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->services, &i)) != NULL;)
        try_send(r, e->value);
}

void reports_repeat(struct reports *r)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->services, &i)) != NULL;)
        ((struct told *)e->value)->sent = false;
    reports_flush(r);
}
