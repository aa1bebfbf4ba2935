/* The link to the control plane. The happy path: connect -> opened -> it sends documents, plans and
 * what to replicate -> we answer and count. When the link is lost: connect again with backoff, for
 * ever; the control plane then sends everything again, and every REPLICATE is answered by where it
 * stands, every plan by its counts. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "region/node.h"

static void connect_now(struct timer *t);

/* Regions are few: 3 s at most are no herd, and a control plane that is back is found soon. */
static void retry(struct region *r)
{
    enum { ATTEMPTS_MAX = 5 };

    if (r->closing)
        return;
    timer_start(r->loop, &r->up_retry, link_backoff_ms(r->up_attempts), 0, connect_now);
    if (r->up_attempts < ATTEMPTS_MAX)
        r->up_attempts++;
}

/* True: sent, or the link is gone anyway. What could not be queued is sent after a reconnect. */
static void say(struct region *r, enum msg_type type, const void *msg)
{
    struct err err = ERR_INIT;

    if (!r->up_open || link_send(r->up, type, msg, &err) == 0)
        return;
    log_warn("control plane: send %s: %s", msg_name(type), err.text);
    r->up_open = false;
    link_close(r->up, err.code, "cannot be told");
}

static void not_asked(void *ctx, struct replica *replica)
{
    (void)ctx;
    replica->asked = false;
}

/* What the control plane knows may be old: also that nobody runs a service any more is said. */
static void tell_all_runs(struct region *r)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->docs->goals, &i)) != NULL;)
        running_touch(&r->machines->running, e->key);
    running_touch_all(&r->machines->running);
    uplink_runs(r);
}

static void opened(void *ctx, struct link *l)
{
    struct region *r = ctx;

    (void)l;
    log_info("linked to the control plane");
    r->up_open = true;
    r->up_since_ms = loop_now_ms(r->loop);
    r->up_attempts = 0;
    replicas_each(r->replicas, not_asked, NULL); /* it asks again for what it needs */
    for (size_t i = 0; i < r->machines->nplans; i++) {
        buf_release(&r->machines->plans[i]->sent);
        r->machines->plans[i]->dirty = true;
    }
    uplink_counts_soon(r);
    tell_all_runs(r);
}

static void on_goal(struct region *r, const struct doc_goal *g)
{
    const struct goal *goal = g->goal;

    log_info("goal of %s: generation %llu, deployment %s", goal->service,
             (unsigned long long)goal->generation, goal->deployment);
    leases_goal(r->leases, goal->service, goal->generation, goal->max_moving, goal->urgent);
    machines_touch(r->machines, goal->service);
    relay_goal(r, g);
    agents_grant(r);
}

static void on_doc(struct region *r, const struct msg_doc *m)
{
    struct docs_change change;
    struct err err = ERR_INIT;

    if (docs_accept(r->docs, m, true, &change, &err) < 0) {
        log_warn("control plane: refused: %s", err.text);
        return;
    }
    if (!change.changed)
        return;
    node_save(r);
    if (m->kind == DOC_TRUST) {
        relay_trust(r);
        agents_refuse_denied(r);
    } else if (m->kind == DOC_RELEASE) {
        relay_release(r, &change.release);
    } else {
        on_goal(r, change.goal);
    }
}

void uplink_replica(struct region *r, struct replica *replica)
{
    struct msg_replica msg = { replica->artifact, (uint8_t)replica->state, replica->bytes,
                               replica->total,    replica->origin_bytes,   replica->reason };
    int64_t now_ms = loop_now_ms(r->loop);
    bool is_more = replica->bytes == replica->total && replica->bytes != replica->told_bytes;

    if (!replica->asked || !r->up_open)
        return;
    /* A delta that has arrived behind the full pack is said at once. */
    if (replica->told == replica->state && !(replica->state == REPLICA_VERIFIED && is_more) &&
        (replica->state != REPLICA_FETCHING || now_ms - replica->told_ms < REGION_REPLICA_MS))
        return;
    replica->told = replica->state;
    replica->told_ms = now_ms;
    replica->told_bytes = replica->bytes;
    say(r, MSG_REPLICA, &msg);
}

static void on_replicate(struct region *r, const struct msg_replicate *m)
{
    const struct msg_artifact *artifacts = m->artifacts.items;

    for (size_t i = 0; i < m->artifacts.count; i++) {
        struct replica *replica = NULL;
        struct err err = ERR_INIT;

        if (replicas_want(r->replicas, &artifacts[i], &replica, &err) < 0) {
            struct msg_replica msg = { .artifact = artifacts[i].artifact,
                                       .state = REPLICA_FAILED,
                                       .reason = err.text };

            log_warn("%s", err.text);
            say(r, MSG_REPLICA, &msg);
            continue;
        }
        state_want(r->state, &artifacts[i].artifact, &artifacts[i]);
        for (size_t k = 0; k < artifacts[i].packs.count; k++)
            sent_expect(r->sent, m->deployment,
                        &((const struct msg_pack *)artifacts[i].packs.items)[k].pack);
        replica->asked = true;
        replica->told = REPLICA_NONE;
        uplink_replica(r, replica);
    }
}

static void on_fleet_ask(struct region *r, const struct msg_fleet_ask *m)
{
    struct msg_fleet answer;
    struct err err = ERR_INIT;

    if (machines_fleet(r->machines, m, &answer, &err) < 0) {
        log_error("control plane asked: %s", err.text);
        return;
    }
    say(r, MSG_FLEET, &answer);
    codec_release(msg_codec(MSG_FLEET), &answer);
}

static void on_quantile_ask(struct region *r, const struct msg_quantile_ask *m)
{
    struct msg_quantile answer;
    struct err err = ERR_INIT;

    if (machines_quantile(r->machines, m, &answer, &err) < 0) {
        log_error("control plane asked: %s", err.text);
        return;
    }
    say(r, MSG_QUANTILE, &answer);
    codec_release(msg_codec(MSG_QUANTILE), &answer);
}

static void on_plan(struct region *r, const struct msg_plan *m)
{
    struct err err = ERR_INIT;

    if (machines_plan(r->machines, m, &err) < 0) {
        log_error("control plane: %s", err.text);
        return;
    }
    uplink_counts_soon(r);
}

void uplink_runs(struct region *r)
{
    struct msg_runs runs;

    while (r->up_open && running_next(&r->machines->running, &runs)) {
        say(r, MSG_RUNS, &runs);
        codec_release(msg_codec(MSG_RUNS), &runs);
    }
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct region *r = ctx;

    (void)l;
    if (r->closing)
        return;
    if (type == MSG_DOC)
        on_doc(r, msg);
    else if (type == MSG_REPLICATE)
        on_replicate(r, msg);
    else if (type == MSG_FLEET_ASK)
        on_fleet_ask(r, msg);
    else if (type == MSG_QUANTILE_ASK)
        on_quantile_ask(r, msg);
    else if (type == MSG_PLAN)
        on_plan(r, msg);
    else
        log_warn("control plane sent %s, which means nothing here", msg_name(type));
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct region *r = ctx;

    (void)l;
    if (!r->closing && (r->up_open || r->up_attempts <= 1)) /* each loss, and the first failure */
        log_warn("control plane: %s", why->text);
    r->up = NULL;
    r->up_open = false;
    retry(r);
    node_link_gone(r);
}

static const struct link_handler handler = { opened, message, NULL, closed };

static void connect_now(struct timer *t)
{
    struct region *r = CONTAINER_OF(t, struct region, up_retry);
    struct err err = ERR_INIT;

    if (link_connect(&r->up, r->loop, r->identity, r->control_host, r->control_port, ROLE_CONTROL,
                     NULL, &handler, r, &err) == 0)
        return;
    log_warn("control plane: %s", err.text);
    r->up = NULL;
    retry(r);
}

void uplink_start(struct region *r)
{
    if (r->control_host != NULL)
        timer_start(r->loop, &r->up_retry, 0, 0, connect_now);
}

void uplink_stop(struct region *r)
{
    timer_stop(&r->up_retry);
    timer_stop(&r->counts_timer);
    if (r->up != NULL)
        link_close(r->up, ERR_CANCELLED, "this region node is stopping");
    r->up_open = false;
}

/* Beside what machines tell: what we have sent. */
static void add_sent(struct region *r, const struct count_plan *plan, struct msg_counts *counts)
{
    struct msg_swarm *swarm = counts->swarm.items;
    struct list_of packs;

    sent_take(r->sent, plan->deployment, &packs);
    if (packs.count > 0 && counts->swarm.count == 0)
        counts->swarm = (struct list_of){ swarm = mem_alloc(sizeof(*swarm)), 1 };
    if (packs.count > 0)
        swarm->packs = packs;
    else
        free(packs.items);
}

/* Sends a plan's counts if they are not what the control plane has. */
static void send_counts(struct region *r, struct count_plan *plan)
{
    const struct doc_goal *g = docs_goal(r->docs, plan->service);
    bool is_current = g != NULL && strcmp(g->goal->deployment, plan->deployment) == 0;
    struct msg_counts counts;
    AUTO_BUF bytes = BUF_INIT;
    struct err err = ERR_INIT;

    sent_look(r->sent, plan->deployment, is_current || !plan->named);
    if (plan->named && !is_current) { /* it is history: reports answer another deployment now */
        plan->dirty = false;
        return;
    }
    plan->named = is_current;
    machines_count(r->machines, plan, is_current ? g->goal->generation : 0,
                   is_current ? leases_used(r->leases, plan->service) : 0, &counts);
    add_sent(r, plan, &counts);
    if (codec_encode(&bytes, msg_codec(MSG_COUNTS), &counts, &err) < 0) {
        log_error("counts of %s: %s", plan->deployment, err.text);
    } else if (bytes.len != plan->sent.len || memcmp(bytes.data, plan->sent.data, bytes.len) != 0) {
        buf_reset(&plan->sent);
        buf_append(&plan->sent, bytes.data, bytes.len);
        say(r, MSG_COUNTS, &counts);
    }
    codec_release(msg_codec(MSG_COUNTS), &counts);
}

static void count(struct timer *t)
{
    struct region *r = CONTAINER_OF(t, struct region, counts_timer);
    enum { LOOKS = 200000 }; /* machines looked at in one go: about 20 ms */
    size_t looks = 0;

    r->counts_ms = loop_now_ms(r->loop);
    for (size_t i = 0; i < r->machines->nplans && r->up_open; i++) {
        struct count_plan *plan = r->machines->plans[r->machines->nplans - 1 - i];

        if (!plan->dirty)
            continue;
        if (looks > LOOKS) {
            uplink_counts_soon(r);
            return;
        }
        looks += r->machines->count;
        send_counts(r, plan);
    }
}

void uplink_counts_soon(struct region *r)
{
    int64_t wait = r->counts_ms + REGION_COUNTS_MS - loop_now_ms(r->loop);

    if (!r->up_open || r->counts_timer.active || r->closing)
        return;
    timer_start(r->loop, &r->counts_timer, wait < 5 ? 5 : wait, 0, count);
}
