#include "region/seed.h"

#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link.h"
#include "io/pki.h"
#include "io/proc.h"
#include "io/work.h"
#include "region/seed_told.h"
#include "store/dir.h"
#include "store/offenders.h"
#include "store/publish.h"
#include "swarm/tracker.h"

enum { POOL_THREADS = 2, NAME_HEX = 8, BUSY_MS = 10, SEED_LEVEL = 1 };

static const char region_name[] = "seed";

/* A machine and its link. One that is lost and comes back is a new session. */
struct session {
    struct seed *seed;
    struct link *link;
    char *host; /* where peers reach it; NULL: it has not said so */
    int port;
    bool joined;
    struct list node;
};

struct seed {
    struct loop *loop;
    struct work_pool *pool;
    char *state, *keys, *identity, *cluster;
    int lock_fd;
    struct pki_ca *ca;
    struct link_identity *self;
    struct link_listener *listener;
    struct exchange *exchange;
    struct tracker *tracker;
    struct seed_told *told;
    size_t leaves;
    struct list sessions;
    struct timer tell, tick, closing;
    uint64_t refused; /* by the listener, once it is closed */
    struct reference reference;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* ---- machines ---- */

static struct session *find(const struct seed *s, const char *id)
{
    LIST_EACH (&s->sessions, n) {
        struct session *m = CONTAINER_OF(n, struct session, node);

        if (strcmp(link_peer_id(m->link), id) == 0)
            return m;
    }
    return NULL;
}

static void tell(struct seed *s, const char *id)
{
    const char *ids[TRACKER_DEGREE_MAX];
    struct msg_peer peers[TRACKER_DEGREE_MAX];
    struct msg_peers msg = { s->reference.pack, { peers, 0 } };
    struct session *m = find(s, id);
    struct err err = ERR_INIT;
    size_t n;

    if (m == NULL)
        return;
    n = tracker_peers(s->tracker, id, ids);
    for (size_t i = 0; i < n; i++) {
        struct session *other = find(s, ids[i]);

        if (other != NULL && other->host != NULL)
            peers[msg.peers.count++] =
                (struct msg_peer){ (char *)(uintptr_t)link_peer_id(other->link), other->host,
                                   (uint16_t)other->port, RACK_UNKNOWN };
    }
    if (link_send(m->link, MSG_PEERS, &msg, &err) < 0)
        log_debug("peers for %s: %s", id, err.text);
}

static void tell_changed(struct timer *t)
{
    struct seed *s = CONTAINER_OF(t, struct seed, tell);
    const char *id;

    while ((id = tracker_changed(s->tracker)) != NULL)
        tell(s, id);
}

static void tell_soon(struct seed *s)
{
    if (!s->tell.active && s->closed == NULL)
        timer_start(s->loop, &s->tell, SEED_PEERS_MS, 0, tell_changed);
}

static void step(struct seed *s, const struct tracker_event *e)
{
    tracker_step(s->tracker, e, loop_now_ms(s->loop));
    tell_soon(s);
}

static void on_tick(struct timer *t)
{
    struct seed *s = CONTAINER_OF(t, struct seed, tick);
    int64_t next_ms = tracker_next_ms(s->tracker);

    if (next_ms >= 0 && next_ms <= loop_now_ms(s->loop))
        step(s, &(struct tracker_event){ .kind = TRACKER_TICK });
}

static void on_machine(struct session *m, const struct msg_machine *said)
{
    bool any = said->host[0] == '\0' || strcmp(said->host, "0.0.0.0") == 0 ||
               strcmp(said->host, "[::]") == 0;

    free(m->host);
    m->host = mem_strdup(any ? link_peer_host(m->link) : said->host);
    m->port = said->port;
    if (m->joined)
        step(m->seed,
             &(struct tracker_event){ TRACKER_MOVED, link_peer_id(m->link), NULL, false, false });
}

static void on_join(struct session *m, const struct msg_join *join)
{
    struct seed *s = m->seed;
    struct tracker_event e = { TRACKER_JOIN, link_peer_id(m->link), NULL, false, false };
    size_t set = 0;

    if (!hash_equal(&join->pack, &s->reference.pack))
        return;
    for (size_t i = 0; i < join->bitmap.len; i++)
        set += (size_t)__builtin_popcount(join->bitmap.data[i]);
    e.some = set > 0;
    e.complete = set >= s->leaves;
    m->joined = true;
    step(s, &e);
}

static void opened(void *ctx, struct link *l)
{
    struct seed *s = ctx;
    struct session *old = find(s, link_peer_id(l)), *m;

    if (s->closed != NULL || exchange_is_banned(s->exchange, link_peer_id(l))) {
        link_close(l, ERR_DENIED, "not welcome");
        return;
    }
    if (old != NULL) {
        list_remove(&old->node);
        list_init(&old->node);
        link_close(old->link, ERR_CANCELLED, "connected anew");
    }
    m = mem_alloc(sizeof(*m));
    m->seed = s;
    m->link = l;
    list_push(&s->sessions, &m->node);
    link_set_user(l, m);
    exchange_attach(s->exchange, l);
}

static void message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct seed *s = ctx;
    struct session *m = link_user(l);

    if (exchange_message(s->exchange, l, type, msg))
        return;
    if (type == MSG_MACHINE)
        on_machine(m, msg);
    else if (type == MSG_JOIN)
        on_join(m, msg);
    else if (type == MSG_PROGRESS)
        seed_told_take(s->told, link_peer_id(l), msg);
    else if (type == MSG_LEAVE)
        step(s, &(struct tracker_event){ TRACKER_LEAVE, link_peer_id(l), NULL, false, false });
    else
        link_close(l, ERR_INVALID, "not a message for a seed");
}

static void drained(void *ctx, struct link *l)
{
    exchange_drained(((struct seed *)ctx)->exchange, l);
}

static void closed(void *ctx, struct link *l, const struct err *why)
{
    struct seed *s = ctx;
    struct session *m = link_user(l);

    if (m == NULL)
        return;
    log_debug("%s: %s", link_peer_id(l), why->text);
    exchange_detach(s->exchange, l);
    list_remove(&m->node);
    if (m->joined && find(s, link_peer_id(l)) == NULL)
        step(s, &(struct tracker_event){ TRACKER_LOST, link_peer_id(l), NULL, false, false });
    free(m->host);
    free(m);
}

static const struct link_handler handler = { opened, message, drained, closed };

static int enrol_one(void *ctx, const struct msg_enrol *ask, struct pki_signed *ret,
                     struct err *err)
{
    const struct seed *s = ctx;

    if (ask->secret.len != SECRET_BYTES ||
        CRYPTO_memcmp(ask->secret.data, s->reference.secret, SECRET_BYTES) != 0)
        return err_set(err, ERR_DENIED, "the secret is wrong");
    return pki_sign(s->ca, ROLE_AGENT, &ask->request, ret, err);
}

/* ---- start ---- */

/* The content of a small file in the state directory, made of random bytes the first time. */
static int keep_random(const struct seed *s, const char *name, void *out, size_t len,
                       struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", s->state, name);
    AUTO_BUF text = BUF_INIT;
    char hex[2 * SECRET_BYTES + 1];

    if (!path_exists(path)) {
        random_bytes(out, len);
        hex_encode(hex, out, len);
        return file_publish(path, hex, 2 * len, 0600, err);
    }
    if (file_read(&text, path, sizeof(hex), err) < 0)
        return -(int)err->code;
    if (text.len != 2 * len || !hex_decode(out, len, buf_str(&text)))
        return err_set(err, ERR_CORRUPT, "%s: not %zu hex digits", path, 2 * len);
    return 0;
}

static int open_keys(struct seed *s, struct err *err)
{
    unsigned char name[NAME_HEX / 2];
    char hex[NAME_HEX + 1];

    s->keys = mem_printf("%s/keys", s->state);
    s->identity = mem_printf("%s/identity", s->state);
    if (keep_random(s, "secret", s->reference.secret, SECRET_BYTES, err) < 0 ||
        keep_random(s, "name", name, sizeof(name), err) < 0)
        return -(int)err->code;
    hex_encode(hex, name, sizeof(name));
    s->cluster = mem_printf("seed-%s", hex);
    if (pki_make_ca(s->keys, s->cluster, err) < 0 ||
        pki_issue(s->keys, s->identity, s->cluster, ROLE_REGION, region_name, err) < 0 ||
        pki_pin(s->keys, &s->reference.pin, err) < 0 ||
        pki_ca_open(&s->ca, s->keys, s->cluster, err) < 0)
        return -(int)err->code;
    return link_identity_load(&s->self, s->identity, region_name, err);
}

static int give(struct seed *s, struct store *store, const struct published *p,
                const uint64_t *sums, struct err *err)
{
    AUTO_BUF manifest = BUF_INIT;
    AUTO_BUF index = BUF_INIT;
    AUTO_BUF path = BUF_INIT;

    if (store_get(store, OBJECT_MANIFEST, &p->artifact, &manifest, err) < 0 ||
        store_get(store, OBJECT_INDEX, &p->pack, &index, err) < 0)
        return -(int)err->code;
    dir_store_path(store, OBJECT_PACK, &p->pack, &path);
    exchange_offer(s->exchange, manifest.data, manifest.len);
    if (exchange_seed(s->exchange, index.data, index.len, path.data, err) < 0)
        return -(int)err->code;
    exchange_vouch(s->exchange, &p->pack, sums);
    return 0;
}

static int publish(struct seed *s, const struct seed_options *o, struct err *err)
{
    AUTO_FREE char *dir = mem_printf("%s/store", s->state);
    AUTO_FREE uint64_t *sums = NULL;
    struct publish_options options = { .level = SEED_LEVEL, .ret_sums = &sums };
    struct published p;
    struct store *store = NULL;
    int rv = store_open(&store, dir, err);

    if (rv == 0)
        rv = artifact_publish(store, o->path, &options, &p, err);
    if (rv == 0) {
        s->reference.artifact = p.artifact;
        s->reference.pack = p.pack;
        s->reference.is_file = !path_is_dir(o->path);
        s->leaves = (size_t)((p.pack_bytes + LEAF_BYTES - 1) / LEAF_BYTES);
        s->told = seed_told_new(&p.pack, p.pack_bytes);
        rv = give(s, store, &p, sums, err);
    }
    store_close(store);
    return rv;
}

static int open_exchange(struct seed *s, struct err *err)
{
    AUTO_FREE char *dir = mem_printf("%s/packs", s->state);
    struct exchange_options x = { .loop = s->loop, .pool = s->pool, .dir = dir };

    random_bytes(&x.seed, sizeof(x.seed));
    s->tracker = tracker_new(x.seed);
    return exchange_new(&s->exchange, &x, err);
}

/* The reference names the host that we listen at, unless told otherwise. */
static void name_address(struct seed *s, const struct seed_options *o)
{
    const char *host = o->host != NULL ? o->host : o->listen;
    size_t len = o->host != NULL ? strlen(host) : (size_t)(strrchr(host, ':') - host);

    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    }
    snprintf(s->reference.host, sizeof(s->reference.host), "%.*s", (int)len, host);
    s->reference.port = link_listener_port(s->listener);
}

static int listen_here(struct seed *s, const struct seed_options *o, struct err *err)
{
    int rv = link_listen(&s->listener, s->loop, s->self, o->listen, 1u << ROLE_AGENT,
                         SEED_MACHINES_MAX, &handler, s, err);

    if (rv < 0)
        return rv;
    exchange_limit(s->exchange, o->up_bytes, 0);
    link_listener_set_enrol(s->listener, &(struct link_enrol){ enrol_one, s });
    name_address(s, o);
    return 0;
}

static int open_all(struct seed *s, const struct seed_options *o, struct err *err)
{
    AUTO_FREE char *lock = mem_printf("%s/lock", s->state);

    if (dir_make(s->state, 0700, err) < 0 || file_lock(&s->lock_fd, lock, err) < 0 ||
        open_keys(s, err) < 0 || work_pool_new(&s->pool, s->loop, POOL_THREADS, err) < 0 ||
        open_exchange(s, err) < 0 || publish(s, o, err) < 0)
        return -(int)err->code;
    return listen_here(s, o, err);
}

int seed_new(struct seed **ret, struct loop *loop, const struct seed_options *o, struct err *err)
{
    struct seed *s = mem_alloc(sizeof(*s));
    int rv;

    s->loop = loop;
    s->lock_fd = -1;
    s->state = mem_strdup(o->state);
    list_init(&s->sessions);
    rv = open_all(s, o, err);
    if (rv < 0) {
        seed_free(s);
        return err_wrap(err, "seed %s", o->path);
    }
    timer_start(loop, &s->tick, SEED_TICK_MS, SEED_TICK_MS, on_tick);
    *ret = s;
    return 0;
}

const struct reference *seed_reference(const struct seed *s)
{
    return &s->reference;
}

/* ---- end ---- */

static void when_closed(struct timer *t)
{
    struct seed *s = CONTAINER_OF(t, struct seed, closing);

    if (!list_empty(&s->sessions) || exchange_is_busy(s->exchange))
        return;
    timer_stop(t);
    s->closed(s->closed_arg);
}

void seed_close(struct seed *s, void (*fn)(void *arg), void *arg)
{
    if (s->closed != NULL)
        return;
    s->closed = fn;
    s->closed_arg = arg;
    timer_stop(&s->tell);
    timer_stop(&s->tick);
    s->refused = link_listener_refused(s->listener);
    link_listener_close(s->listener);
    s->listener = NULL;
    LIST_EACH (&s->sessions, n)
        link_close(CONTAINER_OF(n, struct session, node)->link, ERR_CANCELLED, "the seed stops");
    timer_start(s->loop, &s->closing, 0, BUSY_MS, when_closed);
}

void seed_free(struct seed *s)
{
    if (s == NULL)
        return;
    if (s->pool != NULL)
        work_pool_free(s->pool);
    exchange_free(s->exchange);
    tracker_free(s->tracker);
    seed_told_free(s->told);
    link_listener_close(s->listener);
    link_identity_free(s->self);
    pki_ca_free(s->ca);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->cluster);
    free(s->identity);
    free(s->keys);
    free(s->state);
    free(s);
}

/* ---- as a process ---- */

struct process {
    struct loop *loop;
    struct seed *seed;
    bool json;
    struct timer tell;
    struct offenders told;
};

static struct offenders offenders_now(const struct seed *s)
{
    return offenders_of(s->exchange, s->self,
                        s->listener == NULL ? s->refused : link_listener_refused(s->listener));
}

static void print(FILE *to, const struct buf *line)
{
    if (fprintf(to, "%s\n", buf_str(line)) < 0 || fflush(to) != 0)
        log_debug("nobody reads what is printed");
}

static void tell_totals(struct process *p, const char *event)
{
    unsigned long long sent = exchange_counts(p->seed->exchange).sent_bytes;
    AUTO_BUF line = BUF_INIT;

    p->told = offenders_now(p->seed);
    if (p->json) {
        buf_printf(&line, "{\"v\":1,\"event\":\"%s\",\"sent_bytes\":%llu,", event, sent);
        offenders_json(&line, &p->told);
        buf_char(&line, ',');
        seed_told_json(p->seed->told, sent, &line);
        buf_char(&line, '}');
        print(stdout, &line);
    } else {
        buf_printf(&line, "seed: gave %.1f MiB, ", (double)sent / (1 << 20));
        seed_told_text(p->seed->told, sent, &line);
        buf_str_append(&line, "; ");
        offenders_text(&line, &p->told);
        print(stderr, &line);
    }
}

static void look_for_offenders(struct timer *t)
{
    struct process *p = CONTAINER_OF(t, struct process, tell);
    struct offenders now = offenders_now(p->seed);

    if (memcmp(&now, &p->told, sizeof(now)) != 0)
        tell_totals(p, "offenders");
}

static void all_closed(void *arg)
{
    loop_stop(((struct process *)arg)->loop);
}

static void on_signal(void *arg, int signo)
{
    struct process *p = arg;

    (void)signo;
    seed_close(p->seed, all_closed, p);
}

static int say(const struct process *p, const char *ref_file, struct err *err)
{
    AUTO_BUF line = BUF_INIT;

    reference_write(&line, &p->seed->reference); /* has nothing that JSON would escape */
    if (p->json && printf("{\"v\":1,\"event\":\"ready\",\"reference\":\"%s\"}\n", line.data) < 0)
        return err_set(err, ERR_IO, "print the reference");
    buf_char(&line, '\n');
    if ((!p->json && fputs(line.data, stdout) < 0) || fflush(stdout) != 0)
        return err_set(err, ERR_IO, "print the reference");
    return ref_file == NULL ? 0 : file_publish(ref_file, line.data, line.len, 0600, err);
}

int seed_main_loop(const struct seed_options *o, const char *ref_file, int parent_fd,
                   struct err *err)
{
    struct process p = { .json = o->json };
    int rv = loop_new(&p.loop, err);

    if (rv < 0)
        return rv;
    if (seed_new(&p.seed, p.loop, o, err) < 0 ||
        loop_on_signal(p.loop, SIGTERM, on_signal, &p, err) < 0 ||
        loop_on_signal(p.loop, SIGINT, on_signal, &p, err) < 0 ||
        (parent_fd >= 0 && proc_exit_with_parent(p.loop, parent_fd, err) < 0))
        rv = -(int)err->code;
    if (rv == 0)
        rv = say(&p, ref_file, err);
    if (rv == 0) {
        if (p.json)
            timer_start(p.loop, &p.tell, SEED_TELL_MS, SEED_TELL_MS, look_for_offenders);
        loop_run(p.loop);
        timer_stop(&p.tell);
        tell_totals(&p, "stopped");
    }
    seed_free(p.seed);
    loop_free(p.loop);
    return rv;
}
