/* The conversation with the region node: MACHINE first, then what is true; documents, sources, slots
 * and peers come back. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_internal.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/interface.h"
#include "io/proc.h"

enum {
    PROGRESS_MS = 1000,
    EARLY_MAX = 2 * AGENT_SERVICES_MAX,
};

/* What was told of a service: only numbers are looked at. */
struct told_progress {
    struct msg_progress p;
    struct msg_fetch f;
};

/* Sources that came before the goal that makes their service. */
struct early {
    struct list node;
    struct msg_sources *sources;
};

static void early_free(struct agent *a, struct early *e)
{
    list_remove(&e->node);
    codec_free(msg_codec(MSG_SOURCES), e->sources);
    free(e);
    a->nearly--;
}

static void keep_early(struct agent *a, const struct msg_sources *m)
{
    struct early *e = mem_alloc(sizeof(*e));
    struct msg_sources *copy = mem_alloc(sizeof(*copy));

    if (a->nearly == EARLY_MAX)
        early_free(a, CONTAINER_OF(a->early.next, struct early, node));
    *copy = *m;
    copy->service = mem_strdup(m->service);
    copy->packs.items = mem_dup(m->packs.items, m->packs.count * sizeof(struct msg_pack));
    e->sources = copy;
    list_push(&a->early, &e->node);
    a->nearly++;
}

static void take_sources(struct agent *a, const struct msg_sources *m)
{
    struct service *s = agent_service(a, m->service);

    if (s != NULL)
        service_sources(s, m);
    else
        keep_early(a, m);
}

static void new_goal(struct agent *a, const char *name)
{
    struct service *s = agent_make_service(a, name);

    if (s == NULL)
        return;
    LIST_EACH (&a->early, n) {
        struct early *e = CONTAINER_OF(n, struct early, node);

        if (strcmp(e->sources->service, name) == 0) {
            service_sources(s, e->sources);
            early_free(a, e);
        }
    }
    service_poke(s);
}

static void take_doc(struct agent *a, const struct msg_doc *m)
{
    struct goals_taken taken;
    struct err err = ERR_INIT;

    if (goals_take(a->goals, (enum doc_kind)m->kind, m->bytes.data, m->bytes.len, &taken, &err) <
        0) {
        log_warn("refused (%" PRIu64 " in all): %s", goals_refused_all(a->goals), err.text);
        agent_poke_all(a);
        return;
    }
    if (taken.change == GOALS_GOAL)
        new_goal(a, taken.service);
    else if (taken.change != GOALS_SAME)
        agent_poke_all(a);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct agent *a = ctx;

    if (exchange_message(a->exchange, l, type, msg))
        return;
    if (type == MSG_DOC)
        take_doc(a, msg);
    else if (type == MSG_SOURCES)
        take_sources(a, msg);
    else if (type == MSG_SLOT)
        slots_message(a->slots, msg);
    else if (type == MSG_PEERS && agent_uses_pack(a, &((const struct msg_peers *)msg)->pack))
        peers_set(a->peers, msg);
    else
        log_debug("a %s from the region node is nothing to us", msg_name(type));
}

/* --- telling --- */

int agent_send(void *ctx, enum msg_type type, const void *msg, struct err *err)
{
    struct agent *a = ctx;

    /* Nothing before MACHINE has been said: uplink tells us when it is open. */
    if (a->uplink == NULL)
        return err_set(err, ERR_UNREACHABLE, "not connected yet");
    return uplink_send(a->uplink, type, msg, err);
}

static void say_machine(struct agent *a)
{
    struct msg_label labels[AGENT_LABELS_MAX];
    struct msg_service *services = mem_calloc(a->services.count + 1, sizeof(*services));
    struct msg_machine m = { .labels = { labels, a->o.nlabels },
                             .boot = (char *)(uintptr_t)proc_boot_id(),
                             .host = a->listen_host,
                             .port = (uint16_t)peers_port(a->peers),
                             .services = { services, 0 } };
    struct err err = ERR_INIT;
    struct map_entry *e;

    for (size_t i = 0; i < a->o.nlabels; i++)
        labels[i] = (struct msg_label){ (char *)(uintptr_t)a->o.labels[i].key,
                                        (char *)(uintptr_t)a->o.labels[i].value };
    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;)
        service_describe(e->value, &services[m.services.count++]);
    if (uplink_send(a->uplink, MSG_MACHINE, &m, &err) < 0)
        log_error("say what this machine is: %s", err.text);
    free(services);
}

static bool is_same(const struct msg_progress *a, const struct msg_progress *b)
{
    return hash_equal(&a->release, &b->release) && a->staged_bytes == b->staged_bytes &&
           a->wanted_bytes == b->wanted_bytes && a->saved_bytes == b->saved_bytes &&
           a->seed_bytes == b->seed_bytes;
}

/* Also of a fetch that does not move it is told how long it has taken by now. */
static bool is_same_fetch(const struct msg_fetch *a, const struct msg_fetch *b)
{
    return a->done == b->done && a->ms == b->ms && a->edges == b->edges && a->stale == b->stale;
}

void agent_say_progress(struct agent *a)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&a->services, &i)) != NULL;) {
        struct told_progress now, *told = map_get(&a->told, e->key);
        struct fetched_room room = { .fetch = { .done = 0 } };

        if (!service_progress(e->value, &room, &now.p))
            continue;
        now.f = room.fetch;
        if (told != NULL && is_same(&told->p, &now.p) && is_same_fetch(&told->f, &now.f))
            continue;
        if (agent_send(a, MSG_PROGRESS, &now.p, NULL) < 0)
            continue;
        free(map_put(&a->told, e->key, mem_dup(&now, sizeof(now))));
    }
}

static void forget_told(struct agent *a)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&a->told, &i)) != NULL;)
        free(map_remove(&a->told, e->key));
}

static void on_progress(struct timer *t)
{
    agent_say_progress(CONTAINER_OF(t, struct agent, progress));
}

/* --- the link to the region node --- */

static void learn_region(struct agent *a, const char *region)
{
    AUTO_FREE char *path = mem_printf("%s/region", a->root);
    struct err err = ERR_INIT;

    if (a->region != NULL)
        return;
    a->region = mem_strdup(region);
    a->host.region = a->region;
    if (file_publish(path, region, strlen(region), 0644, &err) < 0)
        log_error("remember the region: %s", err.text);
    goals_set_region(a->goals, region);
}

static void up(void *ctx, struct link *l)
{
    struct agent *a = ctx;

    learn_region(a, link_peer_id(l));
    a->link_rate = interface_rate(link_peer_host(l));
    say_machine(a);
    exchange_attach(a->exchange, l);
    exchange_rejoin(a->exchange);
    forget_told(a);
    agent_say_progress(a);
    reports_repeat(a->reports);
    slots_repeat(a->slots);
}

static void drained(void *ctx, struct link *l)
{
    struct agent *a = ctx;

    exchange_drained(a->exchange, l);
    reports_flush(a->reports);
}

static void down(void *ctx, struct link *l)
{
    struct agent *a = ctx;

    exchange_detach(a->exchange, l);
}

void agent_join(void *ctx, const struct hash *pack, const struct bytes *bitmap)
{
    struct msg_join m = { .pack = *pack, .bitmap = *bitmap };

    (void)!agent_send(ctx, MSG_JOIN, &m, NULL);
}

void agent_leave(void *ctx, const struct hash *pack)
{
    struct msg_leave m = { .pack = *pack };

    (void)!agent_send(ctx, MSG_LEAVE, &m, NULL);
}

void agent_talk(struct agent *a)
{
    struct uplink_options o = { .loop = a->loop,
                                .self = a->self,
                                .host = a->o.region_host,
                                .port = a->o.region_port,
                                .region = a->region,
                                .up = up,
                                .message = message,
                                .drained = drained,
                                .down = down,
                                .ctx = a };

    uplink_new(&a->uplink, &o);
    timer_start(a->loop, &a->progress, PROGRESS_MS, PROGRESS_MS, on_progress);
}

void agent_hush(struct agent *a)
{
    LIST_EACH (&a->early, n)
        early_free(a, CONTAINER_OF(n, struct early, node));
    forget_told(a);
    map_release(&a->told);
}
