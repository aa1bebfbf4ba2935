#include "control/link_side.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "control/mailbox.h"
#include "wire/doc.h"

/* A connected region node. */
struct node {
    struct link *link;
    struct link_side *side;
    char *region;
    int64_t session_ms;
    int64_t seq;        /* relays and goals are told up to here */
    bool blocked;       /* the link is full: nothing more until it has drained */
    uint64_t alive_ask; /* of the question that counts all machines; 0: none is out */
    struct map asked;   /* "deployment key" -> struct question */
    struct list tree;   /* in side->nodes */
};

struct question {
    uint64_t number;
    char *deployment, *key;
};

struct link_side {
    struct link_side_options o;
    struct link_listener *listener;
    struct list nodes;
    struct list said; /* struct said, not yet written; the same thing said again replaces it */
    size_t nsaid;
    uint64_t next_ask;
    int64_t relay_seen;
    struct timer poll, alive;
    struct mailbox box;
    struct work work;
    bool busy, poked, stopping, anew;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

static void start_round(struct link_side *s);

/* --- what regions say --- */

static bool same_thing(const struct said *a, const struct said *b)
{
    return a->kind == b->kind && a->kind != SAID_ANSWER && strcmp(a->region, b->region) == 0 &&
           strcmp(a->key, b->key) == 0;
}

static void say(struct link_side *s, struct said *what)
{
    LIST_EACH (&s->said, n) {
        struct said *old = CONTAINER_OF(n, struct said, node);

        if (!same_thing(old, what))
            continue;
        /* Of a region that went and came both facts matter only as the last one. */
        if (what->kind == SAID_REGION && what->n[2] < 0) {
            what->n[2] = old->n[2];
            what->n[3] = old->n[3];
        }
        said_free(old);
        s->nsaid--;
    }
    if (s->nsaid >= LINK_SIDE_SAID_MAX) {
        said_free(what); /* the database is away for long; the region says it again in time */
        return;
    }
    list_push(&s->said, &what->node);
    s->nsaid++;
    start_round(s);
}

static void say_region(struct node *n, bool connected, int64_t machines, int64_t reachable)
{
    struct said *what = said_new(SAID_REGION, n->region, "", wall_ms());

    what->n[0] = connected;
    what->n[1] = n->session_ms;
    what->n[2] = machines;
    what->n[3] = reachable;
    say(n->side, what);
}

static void on_replica(struct node *n, const struct msg_replica *m)
{
    static const char *const states[] = { "waiting", "fetching", "verified", "failed" };
    char hex[HASH_HEX];
    struct said *what = said_new(SAID_REPLICA, n->region, hash_hex(&m->artifact, hex), wall_ms());

    what->state = m->state < COUNT_OF(states) ? states[m->state] : states[0];
    what->body = mem_strdup(m->reason);
    what->n[0] = mailbox_number(m->bytes);
    what->n[1] = mailbox_number(m->total);
    what->n[2] = mailbox_number(m->origin_bytes);
    say(n->side, what);
}

static void on_counts(struct node *n, const struct msg_counts *m)
{
    struct said *what = said_new(SAID_COUNTS, n->region, m->deployment, wall_ms());
    AUTO_JSON *body = counts_to_json(m);

    what->body = json_text(body);
    say(n->side, what);
}

/* A name that no service can have would end up in what others read. */
static void on_runs(struct node *n, struct link *l, const struct msg_runs *m)
{
    struct err err = ERR_INIT;
    struct said *what;
    AUTO_JSON *body = NULL;

    if (doc_check_name("service", m->service, &err) < 0) {
        link_close(l, ERR_INVALID, err.text);
        return;
    }
    what = said_new(SAID_RUNS, n->region, m->service, wall_ms());
    body = runs_to_json(m);

    what->body = json_text(body);
    say(n->side, what);
}

static void question_free(struct question *q)
{
    free(q->deployment);
    free(q->key);
    free(q);
}

static void on_answer(struct node *n, uint64_t ask, json_t *answer)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&n->asked, &i)) != NULL;) {
        struct question *q = e->value;
        struct said *what;

        if (q->number != ask)
            continue;
        what = said_new(SAID_ANSWER, n->region, q->deployment, wall_ms());
        what->ask = mem_strdup(q->key);
        what->body = json_text(answer);
        map_remove(&n->asked, e->key);
        question_free(q);
        say(n->side, what);
        break;
    }
    json_decref(answer);
}

static void on_fleet(struct node *n, const struct msg_fleet *m)
{
    if (m->ask != n->alive_ask) {
        on_answer(n, m->ask, fleet_to_json(m));
        return;
    }
    n->alive_ask = 0;
    say_region(n, true, mailbox_number(m->total), mailbox_number(m->reachable));
}

static void on_message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct node *n = link_user(l);

    (void)ctx;
    if (n == NULL)
        return;
    if (type == MSG_REPLICA)
        on_replica(n, msg);
    else if (type == MSG_COUNTS)
        on_counts(n, msg);
    else if (type == MSG_RUNS)
        on_runs(n, l, msg);
    else if (type == MSG_FLEET)
        on_fleet(n, msg);
    else if (type == MSG_QUANTILE)
        on_answer(n, ((const struct msg_quantile *)msg)->ask, quantile_to_json(msg));
    else
        link_close(l, ERR_INVALID, "a region node does not say that");
}

/* --- coming and going --- */

static void ask_alive(struct node *n)
{
    char everything[] = "{}";
    struct msg_fleet_ask m = { .ask = ++n->side->next_ask,
                               .select = everything,
                               .variant = everything };
    struct err err = ERR_INIT;

    if (n->alive_ask != 0)
        return; /* it has not answered the last one: its row grows old */
    if (link_send(n->link, MSG_FLEET_ASK, &m, &err) == 0)
        n->alive_ask = m.ask;
}

static int send_trust(struct node *n, struct err *err)
{
    const struct buf *doc = &n->side->o.keys->trust_doc;
    struct msg_doc m = { .kind = DOC_TRUST, .bytes = { (unsigned char *)doc->data, doc->len } };

    return link_send(n->link, MSG_DOC, &m, err);
}

static struct node *find_node(struct link_side *s, const char *region)
{
    LIST_EACH (&s->nodes, i) {
        struct node *n = CONTAINER_OF(i, struct node, tree);

        if (strcmp(n->region, region) == 0)
            return n;
    }
    return NULL;
}

static void node_free(struct node *n)
{
    struct map_entry *e;

    list_remove(&n->tree);
    for (size_t i = 0; (e = map_next(&n->asked, &i)) != NULL;)
        question_free(e->value);
    map_release(&n->asked);
    free(n->region);
    free(n);
}

static void on_opened(void *ctx, struct link *l)
{
    struct link_side *s = ctx;
    struct node *n, *old = find_node(s, link_peer_id(l));
    struct err err = ERR_INIT;

    if (s->stopping) {
        link_close(l, ERR_AGAIN, "the control plane is stopping");
        return;
    }
    if (old != NULL) {
        /* The same region again: its old link is dead, or a second node. The newer one counts. */
        link_set_user(old->link, NULL);
        link_close(old->link, ERR_CONFLICT, "the region has connected again");
        node_free(old);
    }
    n = mem_alloc(sizeof(*n));
    n->link = l;
    n->side = s;
    n->region = mem_strdup(link_peer_id(l));
    n->session_ms = wall_ms();
    list_push(&s->nodes, &n->tree);
    link_set_user(l, n);
    log_info("region %s is connected from %s", n->region, link_peer_host(l));
    if (send_trust(n, &err) < 0)
        log_warn("region %s: %s", n->region, err.text);
    s->anew = true;
    say_region(n, true, -1, -1);
    ask_alive(n);
}

static void on_closed(void *ctx, struct link *l, const struct err *why)
{
    struct link_side *s = ctx;
    struct node *n = link_user(l);

    (void)s;
    if (n == NULL)
        return;
    log_info("region %s is gone: %s", n->region, why == NULL ? "" : why->text);
    say_region(n, false, -1, -1);
    node_free(n);
}

static void on_drained(void *ctx, struct link *l)
{
    struct link_side *s = ctx;
    struct node *n = link_user(l);

    if (n == NULL || !n->blocked)
        return;
    n->blocked = false;
    s->anew = true;
    start_round(s);
}

static const struct link_handler handler = { on_opened, on_message, on_drained, on_closed };

/* --- rounds --- */

static bool is_asked(struct node *n, struct telling *t)
{
    AUTO_FREE char *key = mem_printf("%s %s", t->ask_deployment, t->ask_key);

    return map_get(&n->asked, key) != NULL;
}

static void note_asked(struct node *n, struct telling *t, uint64_t number)
{
    AUTO_FREE char *key = mem_printf("%s %s", t->ask_deployment, t->ask_key);
    struct question *q = mem_alloc(sizeof(*q));

    q->number = number;
    q->deployment = mem_strdup(t->ask_deployment);
    q->key = mem_strdup(t->ask_key);
    map_put(&n->asked, key, q);
}

static void set_ask(struct telling *t, uint64_t number)
{
    if (t->type == MSG_FLEET_ASK)
        ((struct msg_fleet_ask *)t->msg)->ask = number;
    else
        ((struct msg_quantile_ask *)t->msg)->ask = number;
}

static void pass_on(struct link_side *s, struct telling *t)
{
    struct node *n = find_node(s, t->region);
    struct err err = ERR_INIT;
    uint64_t number = 0;
    int r;

    if (n == NULL || n->blocked || (t->ask_key != NULL && is_asked(n, t)))
        return;
    if (t->ask_key != NULL) {
        number = ++s->next_ask;
        set_ask(t, number);
    }
    r = link_send(n->link, t->type, t->msg, &err);
    if (r < 0) {
        n->blocked = r == -ERR_AGAIN;
        if (r != -ERR_AGAIN)
            log_error("region %s: %s: %s", n->region, msg_name(t->type), err.text);
        return;
    }
    if (t->ask_key != NULL)
        note_asked(n, t, number);
}

/* Who took all of a round has been told up to the counter that it was made at. */
static void note_told(struct link_side *s)
{
    LIST_EACH (&s->nodes, i) {
        struct node *n = CONTAINER_OF(i, struct node, tree);

        for (size_t k = 0; k < s->box.nlisteners && !n->blocked; k++)
            if (strcmp(s->box.listeners[k].region, n->region) == 0 &&
                s->box.listeners[k].session_ms == n->session_ms)
                n->seq = s->box.relay_seen;
    }
}

static void round_in_pool(struct work *w)
{
    struct link_side *s = CONTAINER_OF(w, struct link_side, work);
    struct db *d = NULL;

    s->box.result = db_pool_take(s->o.db, &d, &s->box.err);
    if (s->box.result == 0)
        mailbox_run(&s->box, d);
    db_pool_give(s->o.db, d);
}

/* What could not be written is kept, unless something newer was said meanwhile. */
static void keep_unwritten(struct link_side *s)
{
    LIST_EACH (&s->box.said, n) {
        struct said *old = CONTAINER_OF(n, struct said, node);
        bool replaced = false;

        LIST_EACH (&s->said, k)
            replaced = replaced || same_thing(old, CONTAINER_OF(k, struct said, node));
        list_remove(&old->node);
        if (replaced) {
            said_free(old);
            continue;
        }
        list_push(&s->said, &old->node);
        s->nsaid++;
    }
}

static void round_done(struct work *w)
{
    struct link_side *s = CONTAINER_OF(w, struct link_side, work);
    bool again, failed;

    s->busy = false;
    if (s->box.result < 0) {
        log_warn("links: %s", s->box.err.text);
        keep_unwritten(s);
        s->anew = true;
        s->poked = false; /* not at once: the poll tries again */
    } else {
        s->relay_seen = s->box.relay_seen;
        LIST_EACH (&s->box.told, n)
            pass_on(s, CONTAINER_OF(n, struct telling, node));
        note_told(s);
    }
    failed = s->box.result < 0;
    again = s->poked || (!failed && !list_empty(&s->said));
    if (s->box.wrote)
        wake_all(s->o.wake);
    mailbox_release(&s->box);
    if (s->stopping && (list_empty(&s->said) || failed) && s->stopped != NULL) {
        void (*stopped)(void *arg) = s->stopped;

        s->stopped = NULL;
        stopped(s->stopped_arg);
        return;
    }
    if (again)
        start_round(s);
}

static void start_round(struct link_side *s)
{
    size_t n = 0;

    if (s->busy) {
        s->poked = true;
        return;
    }
    mailbox_init(&s->box);
    s->box.holder = s->o.holder;
    s->box.relay_seen = s->relay_seen;
    s->box.anew = s->anew;
    s->box.listeners = mem_calloc(LINK_SIDE_REGIONS_MAX, sizeof(*s->box.listeners));
    LIST_EACH (&s->said, k) {
        list_remove(k);
        list_push(&s->box.said, k);
    }
    s->nsaid = 0;
    LIST_EACH (&s->nodes, k) {
        struct node *node = CONTAINER_OF(k, struct node, tree);

        if (n < LINK_SIDE_REGIONS_MAX && !node->blocked)
            s->box.listeners[n++] =
                (struct listener){ mem_strdup(node->region), node->seq, node->session_ms };
    }
    s->box.nlisteners = n;
    s->busy = true;
    s->poked = false;
    s->anew = false;
    s->work = (struct work){ .run = round_in_pool, .done = round_done };
    work_submit(s->o.pool, &s->work);
}

static void on_poll(struct timer *t)
{
    struct link_side *s = CONTAINER_OF(t, struct link_side, poll);

    if (!s->busy)
        start_round(s);
}

static void on_alive(struct timer *t)
{
    struct link_side *s = CONTAINER_OF(t, struct link_side, alive);

    LIST_EACH (&s->nodes, n)
        ask_alive(CONTAINER_OF(n, struct node, tree));
}

static void on_poke(void *arg)
{
    struct link_side *s = arg;

    if (!s->stopping)
        start_round(s);
}

static void poke_from_any_thread(void *arg)
{
    struct link_side *s = arg;

    loop_post(s->o.loop, on_poke, s);
}

/* --- start and stop --- */

/* Rows that an earlier life of ours has left: those links are gone. */
static int forget_links(const struct link_side_options *o, struct err *err)
{
    struct db *d = NULL;
    int r = db_pool_take(o->db, &d, err);

    if (r == 0)
        r = DB_EXEC(d, err, "UPDATE region SET connected = 0 WHERE holder = $1",
                    db_text(o->holder));
    db_pool_give(o->db, d);
    return r;
}

int link_side_start(struct link_side **ret, const struct link_side_options *o, struct err *err)
{
    struct link_side *s = mem_alloc(sizeof(*s));
    int r = forget_links(o, err);

    s->o = *o;
    list_init(&s->nodes);
    list_init(&s->said);
    mailbox_init(&s->box);
    if (r == 0)
        r = link_listen(&s->listener, o->loop, o->identity, o->listen, 1u << ROLE_REGION,
                        LINK_SIDE_REGIONS_MAX, &handler, s, err);
    if (r < 0) {
        free(s);
        return err_wrap(err, "links");
    }
    wake_set_hook(o->wake, poke_from_any_thread, s);
    timer_start(o->loop, &s->poll, LINK_SIDE_POLL_MS, LINK_SIDE_POLL_MS, on_poll);
    timer_start(o->loop, &s->alive, LINK_SIDE_ALIVE_MS, LINK_SIDE_ALIVE_MS, on_alive);
    *ret = s;
    return 0;
}

int link_side_port(const struct link_side *s)
{
    return link_listener_port(s->listener);
}

void link_side_stop(struct link_side *s, void (*done)(void *arg), void *arg)
{
    s->stopping = true;
    s->stopped = done;
    s->stopped_arg = arg;
    wake_set_hook(s->o.wake, NULL, NULL);
    timer_stop(&s->poll);
    timer_stop(&s->alive);
    link_listener_close(s->listener);
    s->listener = NULL;
    LIST_EACH (&s->nodes, k) {
        struct node *n = CONTAINER_OF(k, struct node, tree);

        say_region(n, false, -1, -1);
        link_set_user(n->link, NULL);
        link_close(n->link, ERR_CANCELLED, "the control plane is stopping");
        node_free(n);
    }
    start_round(s); /* its end calls done */
}

void link_side_free(struct link_side *s)
{
    if (s == NULL)
        return;
    LIST_EACH (&s->said, n)
        said_free(CONTAINER_OF(n, struct said, node));
    LIST_EACH (&s->nodes, n)
        node_free(CONTAINER_OF(n, struct node, tree));
    mailbox_release(&s->box);
    free(s);
}
