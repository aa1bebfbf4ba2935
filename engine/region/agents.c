/* The happy path of an agent's link: opened -> MACHINE -> documents and goals -> JOIN, PROGRESS,
 * REPORT staged -> SLOT_ASK, slot -> REPORT activated, healthy -> SLOT_FREE. What fails: an id in
 * the deny list, a message before MACHINE, or a malformed one closes the link; a report of another
 * boot or generation is ignored; a second link of the same machine closes the first. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "region/node.h"

struct session *session_of(const struct machine *m)
{
    return m->user;
}

void session_close(struct session *s, enum err_code code, const char *why)
{
    if (s->closing)
        return;
    s->closing = true;
    link_close(s->link, code, why);
}

bool session_send(struct session *s, enum msg_type type, const void *msg)
{
    struct err err = ERR_INIT;

    if (s->closing || s->behind)
        return false;
    if (link_send(s->link, type, msg, &err) == 0)
        return true;
    s->behind = true;
    if (err.code != ERR_AGAIN && err.code != ERR_CANCELLED) {
        log_error("%s: send %s: %s", link_peer_id(s->link), msg_name(type), err.text);
        session_close(s, ERR_INTERNAL, "cannot be told");
    }
    return false;
}

static void opened(void *ctx, struct link *l)
{
    struct region *r = ctx;
    struct session *s = mem_alloc(sizeof(*s));

    s->r = r;
    s->link = l;
    list_push(&r->sessions, &s->node);
    link_set_user(l, s);
    exchange_attach(r->exchange, l);
    if (r->closing)
        session_close(s, ERR_CANCELLED, "this region node is stopping");
    else if (docs_is_denied(r->docs, link_peer_id(l)))
        session_close(s, ERR_DENIED, "this machine is in the deny list");
    else if (link_peer_region(l)[0] != '\0' && strcmp(link_peer_region(l), r->name) != 0)
        /* One that has met no region yet says none, and learns ours from the link. */
        session_close(s, ERR_DENIED, "this machine is of another region");
}

void agents_refuse_denied(struct region *r)
{
    LIST_EACH (&r->sessions, n) {
        struct session *s = CONTAINER_OF(n, struct session, node);

        if (docs_is_denied(r->docs, link_peer_id(s->link)))
            session_close(s, ERR_DENIED, "this machine is in the deny list");
    }
}

void agents_close(struct region *r, enum err_code code, const char *why)
{
    LIST_EACH (&r->sessions, n)
        session_close(CONTAINER_OF(n, struct session, node), code, why);
}

static void on_machine(struct session *s, const struct msg_machine *m)
{
    struct region *r = s->r;
    struct machine *machine = NULL;
    struct session *before;
    struct err err = ERR_INIT;
    bool moved;

    moved = s->machine != NULL &&
            (s->machine->self->port != m->port || strcmp(s->machine->self->host, m->host) != 0);
    if (machines_hello(r->machines, link_peer_id(s->link), m, loop_now_ms(r->loop), &machine,
                       &err) < 0) {
        log_warn("%s", err.text);
        session_close(s, err.code, err.text);
        return;
    }
    before = machine->user;
    machine->user = s;
    s->machine = machine;
    if (before != NULL && before != s) {
        swarms_lost(before); /* until it joins again over the new link */
        before->njoined = 0;
        session_close(before, ERR_EXISTS, "this machine has a newer link");
    }
    if (moved)
        swarms_moved(s);
    relay_machine(s);
    uplink_counts_soon(r);
}

void agents_grant(struct region *r)
{
    struct slot_grant grants[64];
    size_t n;

    do {
        n = leases_step(r->leases, loop_now_ms(r->loop), grants, COUNT_OF(grants));
        for (size_t i = 0; i < n; i++) {
            const struct doc_goal *g = docs_goal(r->docs, grants[i].service);
            const struct machine *m = machines_find(r->machines, grants[i].machine);
            struct session *s = m == NULL ? NULL : session_of(m);
            char *service = mem_strdup(grants[i].service);
            struct msg_slot msg = { service, g == NULL ? NULL : g->goal->deployment, 1,
                                    SLOT_LEASE_MS };

            if (s != NULL)
                session_send(s, MSG_SLOT, &msg);
            machines_touch(r->machines, service);
            state_leases(r->state);
            free(service);
        }
    } while (n == COUNT_OF(grants));
    uplink_counts_soon(r);
}

static void on_slot_ask(struct session *s, const struct msg_slot_ask *m)
{
    struct region *r = s->r;
    const struct doc_goal *g = docs_goal(r->docs, m->service);
    struct msg_slot answer = { m->service, m->deployment, 0, SLOT_LEASE_MS };
    bool may = g != NULL && m->generation == g->goal->generation &&
               (g->goal->action != GOAL_RUN ||
                goal_activates(g->goal, s->machine->id, s->machine->labels, s->machine->nlabels));

    if (may &&
        leases_ask(r->leases, m->service, s->machine->id, m->generation, loop_now_ms(r->loop))) {
        answer.granted = 1;
        state_leases(r->state);
        node_save(r);
        machines_touch(r->machines, m->service);
        uplink_counts_soon(r);
    }
    session_send(s, MSG_SLOT, &answer);
}

static void give_slot(struct session *s, const char *service)
{
    if (!leases_give(s->r->leases, service, s->machine->id))
        return;
    state_leases(s->r->state);
    machines_touch(s->r->machines, service);
    agents_grant(s->r);
}

/* A report that says that the move which the slot was for is over, gives it back. */
static bool ends_move(const struct goal *g, const struct msg_report *m)
{
    if (m->generation != g->generation)
        return false;
    if (m->phase == PHASE_STOPPED)
        return true;
    return (m->phase == PHASE_HEALTHY || m->phase == PHASE_FAILED) &&
           hash_equal(&m->release, &g->release);
}

static void on_report(struct session *s, const struct msg_report *m)
{
    const struct doc_goal *g = docs_goal(s->r->docs, m->service);
    struct err err = ERR_INIT;

    if (machines_report(s->r->machines, s->machine, m, &err) < 0) {
        log_info("%s", err.text);
        if (err.code == ERR_INVALID)
            session_close(s, err.code, err.text);
        return;
    }
    if (g != NULL && ends_move(g->goal, m))
        give_slot(s, m->service);
    uplink_counts_soon(s->r);
}

/* What a machine can fetch for a release: all packs of one artifact, and some of it again. 0: not all of
 * its artifacts are here yet. */
static uint64_t most_bytes(const struct region *r, const struct msg_progress *m)
{
    enum { AGAIN = 2, MORE = 64 * LEAF_BYTES };
    const struct doc_release *d = docs_release(r->docs, &m->release);
    uint64_t most = 0;

    for (size_t i = 0; d != NULL && i < d->release->nartifacts; i++) {
        struct hash packs[PACKS_MAX];
        size_t n = replicas_packs(r->replicas, &d->release->artifacts[i].artifact, packs);
        uint64_t bytes = 0;

        if (n == 0)
            return 0;
        for (size_t k = 0; k < n; k++)
            bytes += replicas_pack_bytes(r->replicas, &packs[k]);
        most = bytes > most ? bytes : most;
    }
    return most == 0 ? 0 : AGAIN * most + MORE;
}

static void on_progress(struct session *s, const struct msg_progress *m)
{
    struct err err = ERR_INIT;

    if (machines_progress(s->r->machines, s->machine, m, most_bytes(s->r, m), &err) < 0) {
        if (!s->refused)
            log_warn("%s", err.text);
        s->refused = true; /* once a link: it may go on like that */
        uplink_counts_soon(s->r);
        return;
    }
    uplink_counts_soon(s->r);
}

static void dispatch(struct session *s, enum msg_type type, const void *msg)
{
    if (type == MSG_MACHINE)
        on_machine(s, msg);
    else if (s->machine == NULL)
        session_close(s, ERR_INVALID, "MACHINE must come first");
    else if (type == MSG_REPORT)
        on_report(s, msg);
    else if (type == MSG_PROGRESS)
        on_progress(s, msg);
    else if (type == MSG_SLOT_ASK)
        on_slot_ask(s, msg);
    else if (type == MSG_SLOT_FREE)
        give_slot(s, ((const struct msg_slot_ask *)msg)->service);
    else if (type == MSG_JOIN)
        swarms_join(s, msg);
    else if (type == MSG_LEAVE)
        swarms_leave(s, msg);
    else
        session_close(s, ERR_INVALID, "an agent does not send this");
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct session *s = link_user(l);

    (void)ctx;
    if (s->closing || (s->machine != NULL && session_of(s->machine) != s))
        return;
    if (exchange_message(s->r->exchange, l, type, msg))
        return;
    dispatch(s, type, msg);
}

static void drained(void *ctx, struct link *l)
{
    struct session *s = link_user(l);

    (void)ctx;
    exchange_drained(s->r->exchange, l);
    if (!s->behind || s->machine == NULL)
        return;
    relay_machine(s); /* clears `behind` */
    if (!s->behind)
        swarms_again(s);
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct region *r = ctx;
    struct session *s = link_user(l);

    if (s == NULL)
        return; /* closed before it was opened */
    log_debug("agent %s: link closed: %s", link_peer_id(l), why->text);
    exchange_detach(r->exchange, l);
    if (s->machine != NULL && session_of(s->machine) == s) {
        s->machine->user = NULL;
        machines_lost(r->machines, s->machine, loop_now_ms(r->loop));
        leases_drop(r->leases, s->machine->id);
        swarms_lost(s);
    }
    list_remove(&s->node);
    for (size_t i = 0; i < s->ngoals; i++)
        free(s->goals[i].service);
    free(s->goals);
    free(s->sources);
    free(s->joined);
    free(s);
    node_link_gone(r);
}

const struct link_handler agents_handler = { opened, message, drained, closed };
