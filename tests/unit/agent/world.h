/* world.h - a region node, a cluster's keys and an agent for a test: the region node is played by
 * the test on its own loop, over real links; the agent is a real process, this very program run with
 * "--agent" (world_agent_main()), so that it can be killed and started again.
 *
 *     world_start(&w);
 *     r = world_release(&w, "web", commit, &spec);     built, packed, signed, seeded
 *     world_goal(&w, &(struct goal_spec){ ... });      signed and sent, and again to each new link
 *     world_agent(&w, NULL);                           starts the agent
 *     world_until(&w, has_report, ...)                 runs the loop until it is true
 *     world_stop(&w); */
#ifndef UNIT_AGENT_WORLD_H
#define UNIT_AGENT_WORLD_H

#include "lib/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "guard.h"
#include "io/files.h"
#include "io/pki.h"
#include "io/proc.h"
#include "lib/tmpdir.h"
#include "releases.h"
#include "store/exchange.h"
#include "store/publish.h"
#include "store/publish_delta.h"
#include "wire/doc.h"

enum { WORLD_GUARD_MS = 40000, WORLD_DOCS = 64 };

struct world_doc {
    enum doc_kind kind;
    struct buf bytes;
    struct msg_sources *sources; /* when kind is DOC_NONE */
};

struct world {
    struct loop *loop;
    struct work_pool *pool;
    const char *dir, *root;
    struct secret_key root_key, release_key, goal_key;
    struct store *store;
    struct link_identity *self;
    struct link_listener *listener;
    struct exchange *exchange;
    struct link *link; /* the agent's */
    struct world_doc docs[WORLD_DOCS];
    int ndocs;
    bool hold_slots; /* do not grant */
    bool mute;       /* send no documents to a new link */
    int machines, asks, frees, links, progress;
    struct msg_report *report; /* the last one */
    int reports;
    struct msg_progress told; /* the last PROGRESS, without its texts */
    char told_deployment[NAME_MAX_BYTES + 1];
    const char *keep_packs; /* milliseconds, or NULL */
    struct timer guard, watch;
    bool (*wanted)(struct world *w);
    pid_t agent;
    int parent_pipe; /* write end */
    struct proc_watch ended;
    bool agent_is_up;
    int agent_status;
    uint64_t generation;
    const char *arg;
    struct hash want_release;
    enum report_phase want_phase;
};

struct release_spec {
    const char *script;     /* of the file "serve" in the tree, run as ./serve */
    const char *activate;   /* JSON; NULL: process ./serve */
    const char *health;     /* JSON; NULL: passes once */
    size_t ballast;         /* bytes of a file "ballast" that does not compress */
    unsigned seed;          /* of the ballast */
    size_t edits[4];        /* where it has other bytes; 0: none */
    size_t more, more_edit; /* likewise, of a file "more" */
};

#define WORLD_HEALTHY \
    "{\"exec\":[\"/bin/true\"],\"interval\":0.05,\"timeout\":5,\"passes\":1,\"within\":20}"
#define WORLD_SICK \
    "{\"exec\":[\"/bin/false\"],\"interval\":0.05,\"timeout\":5,\"passes\":1,\"within\":0.5}"
#define WORLD_SERVE "#!/bin/sh\necho $RELEASE >> $HOME/ran\nexec sleep 1000\n"

static inline void world_send(struct world *w, const struct world_doc *d)
{
    struct msg_doc m = { .kind = (uint8_t)d->kind,
                         .bytes = { (unsigned char *)d->bytes.data, d->bytes.len } };

    if (w->link == NULL)
        return;
    if (d->kind == DOC_NONE)
        assert_int_equal(link_send(w->link, MSG_SOURCES, d->sources, NULL), 0);
    else
        assert_int_equal(link_send(w->link, MSG_DOC, &m, NULL), 0);
}

/* Keeps and sends a document; takes bytes. */
static inline void world_say(struct world *w, enum doc_kind kind, struct buf *bytes)
{
    struct world_doc *d = &w->docs[w->ndocs];

    assert_true(w->ndocs < WORLD_DOCS);
    w->ndocs++;
    *d = (struct world_doc){ .kind = kind, .bytes = *bytes };
    *bytes = (struct buf)BUF_INIT;
    world_send(w, d);
}

static inline struct secret_key world_key(int n)
{
    struct secret_key key;

    memset(&key, n, sizeof(key));
    return key;
}

static inline void key_hex(const struct secret_key *secret, char out[HASH_HEX])
{
    struct public_key key = key_public(secret);

    hex_encode(out, key.b, KEY_BYTES);
}

static inline void world_trust(struct world *w, unsigned version, const char *deny)
{
    struct buf out = BUF_INIT;
    AUTO_BUF body = BUF_INIT;
    char root[HASH_HEX], release[HASH_HEX], goal[HASH_HEX];

    key_hex(&w->root_key, root);
    key_hex(&w->release_key, release);
    key_hex(&w->goal_key, goal);
    buf_printf(&body,
               "{\"v\":1,\"cluster\":\"c\",\"version\":%u,\"issued\":1,\"root\":\"%s\","
               "\"release\":[\"%s\"],\"goal\":[\"%s\"],\"deny\":[%s]}",
               version, root, release, goal, deny);
    doc_sign(&out, DOC_TRUST, body.data, body.len, &w->root_key);
    world_say(w, DOC_TRUST, &out);
}

/* A file of bytes that do not compress, with other ones where edits are. */
static inline void world_ballast(const char *path, size_t bytes, uint32_t x, const size_t *edits,
                                 size_t nedits)
{
    unsigned char *ballast = mem_alloc(bytes + 1);

    for (size_t i = 0; i < bytes; i++) {
        x = x * 1664525u + 1013904223u;
        ballast[i] = (unsigned char)(x >> 24);
    }
    for (size_t i = 0; i < nedits; i++) {
        if (edits[i] > 0)
            memcpy(ballast + edits[i], "another", 7);
    }
    if (bytes > 0)
        tmpdir_write(path, ballast, bytes);
    free(ballast);
}

static inline const char *world_tree(const struct release_spec *spec)
{
    const char *tree = tmpdir_fresh();
    const char *name = tree + strlen(tmpdir()) + 1;
    const char *serve = tmpdir_path("%s/serve", name);

    tmpdir_write(serve, spec->script, strlen(spec->script));
    assert_int_equal(chmod(serve, 0755), 0);
    tmpdir_write(tmpdir_path("%s/same", name), "same in all", 11);
    world_ballast(tmpdir_path("%s/ballast", name), spec->ballast, spec->seed + 1, spec->edits,
                  COUNT_OF(spec->edits));
    world_ballast(tmpdir_path("%s/more", name), spec->more, spec->seed + 7, &spec->more_edit, 1);
    return tree;
}

static inline void world_seed_pack(struct world *w, const struct hash *hash)
{
    AUTO_BUF index = BUF_INIT;
    struct store_object *pack;
    struct err err = ERR_INIT;
    char hex[HASH_HEX];
    const char *path = tmpdir_path("%s.pack", hash_hex(hash, hex));
    unsigned char *bytes;

    assert_ok(store_get(w->store, OBJECT_INDEX, hash, &index, &err), &err);
    assert_ok(store_open_object(w->store, OBJECT_PACK, hash, &pack, &err), &err);
    bytes = mem_alloc(store_object_bytes(pack));
    assert_ok(store_object_read(pack, bytes, store_object_bytes(pack), 0, &err), &err);
    tmpdir_write(path, bytes, store_object_bytes(pack));
    store_object_close(pack);
    free(bytes);
    assert_ok(exchange_seed(w->exchange, index.data, index.len, path, &err), &err);
}

static inline void world_seed(struct world *w, const struct published *p)
{
    AUTO_BUF manifest = BUF_INIT;
    struct err err = ERR_INIT;

    assert_ok(store_get(w->store, OBJECT_MANIFEST, &p->artifact, &manifest, &err), &err);
    exchange_offer(w->exchange, manifest.data, manifest.len);
    world_seed_pack(w, &p->pack);
}

static inline void world_sources(struct world *w, const char *service, const struct hash *release,
                                 const struct published *p)
{
    struct world_doc *d = &w->docs[w->ndocs++];
    struct msg_sources *s = mem_alloc(sizeof(*s));
    struct msg_pack *pack = mem_alloc(sizeof(*pack));

    pack->pack = p->pack;
    *s = (struct msg_sources){ mem_strdup(service), *release, p->artifact, { pack, 1 } };
    *d = (struct world_doc){ .kind = DOC_NONE, .sources = s };
    world_send(w, d);
}

static inline void world_sign_release(struct world *w, const char *service, const char *commit,
                                      const struct release_spec *spec, const struct published *p,
                                      struct buf *out)
{
    AUTO_BUF body = BUF_INIT;
    char hex[HASH_HEX];

    buf_printf(&body,
               "{\"v\":1,\"cluster\":\"c\",\"service\":\"%s\",\"commit\":\"%s\",\"created\":5,"
               "\"variant\":{},\"artifacts\":[{\"variant\":\"default\",\"artifact\":\"%s\","
               "\"bytes\":%llu,\"files\":%llu}],\"activate\":%s,\"health\":%s}",
               service, commit, hash_hex(&p->artifact, hex), (unsigned long long)p->stream_bytes,
               (unsigned long long)p->files,
               spec->activate != NULL
                   ? spec->activate
                   : "{\"mode\":\"process\",\"start\":[\"./serve\"],"
                     "\"stop\":null,\"env\":{\"GREETING\":\"hello ${MACHINE}\"}}",
               spec->health != NULL ? spec->health : WORLD_HEALTHY);
    doc_sign(out, DOC_RELEASE, body.data, body.len, &w->release_key);
}

/* *ret: its artifact and full pack. */
static inline struct hash world_publish(struct world *w, const char *service, const char *commit,
                                        const struct release_spec *spec, struct published *ret)
{
    struct buf out = BUF_INIT;
    struct err err = ERR_INIT;
    struct hash id;

    assert_ok(artifact_publish(w->store, world_tree(spec), NULL, ret, &err), &err);
    world_seed(w, ret);
    world_sign_release(w, service, commit, spec, ret, &out);
    id = sha256_of(out.data, out.len);
    world_say(w, DOC_RELEASE, &out);
    world_sources(w, service, &id, ret);
    return id;
}

static inline struct hash world_release(struct world *w, const char *service, const char *commit,
                                        const struct release_spec *spec)
{
    struct published p;

    return world_publish(w, service, commit, spec, &p);
}

/* A delta pack, seeded; it is offered by world_offer(). */
static inline struct published_delta world_delta(struct world *w, const struct published *base,
                                                 const struct published *target)
{
    struct delta_side from = { base->artifact, base->pack };
    struct delta_side to = { target->artifact, target->pack };
    struct published_delta d;
    struct err err = ERR_INIT;

    assert_ok(artifact_publish_delta(w->store, &from, &to, NULL, &d, &err), &err);
    assert_false(hash_is_zero(&d.pack));
    published_delta_release(&d);
    world_seed_pack(w, &d.pack);
    return d;
}

/* From now on the release's sources are its full pack and these. */
static inline void world_offer(struct world *w, const struct hash *release,
                               const struct published_delta *deltas, size_t n)
{
    for (int i = 0; i < w->ndocs; i++) {
        struct msg_sources *s = w->docs[i].sources;
        struct msg_pack *packs;

        if (s == NULL || !hash_equal(&s->release, release))
            continue;
        packs = mem_calloc(n + 1, sizeof(*packs));
        packs[0] = *(struct msg_pack *)s->packs.items;
        for (size_t k = 0; k < n; k++)
            packs[k + 1].pack = deltas[k].pack;
        free(s->packs.items);
        s->packs = (struct list_of){ packs, n + 1 };
        world_send(w, &w->docs[i]);
    }
}

struct goal_spec {
    const char *service, *deployment;
    struct hash release, rollback_to;
    bool activate;
    const char *action;  /* NULL: run */
    const char *region;  /* NULL: r1 */
    const char *select;  /* NULL: {} */
    int64_t expires_ms;  /* 0: in an hour */
    uint64_t generation; /* 0: the next */
    int key;             /* 0: the goal key */
};

static inline void hash_or_null(struct buf *b, const char *name, const struct hash *h)
{
    char hex[HASH_HEX];

    if (hash_is_zero(h))
        buf_printf(b, "\"%s\":null,", name);
    else
        buf_printf(b, "\"%s\":\"%s\",", name, hash_hex(h, hex));
}

static inline void world_sign_goal(struct world *w, const struct goal_spec *g, struct buf *out)
{
    static const char all[] = "[{\"where\":{},\"threshold\":\"ffffffffffffffff\"}]";
    struct secret_key key = g->key == 0 ? w->goal_key : world_key(g->key);
    AUTO_BUF body = BUF_INIT;

    if (g->generation == 0)
        w->generation++;
    buf_printf(
        &body,
        "{\"v\":1,\"cluster\":\"c\",\"region\":\"%s\",\"service\":\"%s\",\"generation\":%llu,"
        "\"issued\":%lld,\"expires\":%lld,\"deployment\":\"%s\",",
        g->region == NULL ? "r1" : g->region, g->service,
        (unsigned long long)(g->generation == 0 ? w->generation : g->generation),
        (long long)wall_ms() - 1000,
        (long long)(g->expires_ms == 0 ? wall_ms() + 3600000 : g->expires_ms), g->deployment);
    hash_or_null(&body, "release", &g->release);
    hash_or_null(&body, "rollback_to", &g->rollback_to);
    buf_printf(&body,
               "\"select\":%s,\"stage\":%s,\"activate\":%s,\"max_moving\":1,\"action\":\"%s\","
               "\"urgent\":false}",
               g->select == NULL ? "{}" : g->select, all, g->activate ? all : "[]",
               g->action == NULL ? "run" : g->action);
    doc_sign(out, DOC_GOAL, body.data, body.len, &key);
}

static inline void world_goal(struct world *w, const struct goal_spec *g)
{
    struct buf out = BUF_INIT;

    world_sign_goal(w, g, &out);
    world_say(w, DOC_GOAL, &out);
}

/* --- the region node --- */

static inline void world_opened(void *ctx, struct link *l)
{
    struct world *w = ctx;

    w->link = l;
    w->links++;
    exchange_attach(w->exchange, l);
}

static inline void world_slot(struct world *w, const struct msg_slot_ask *ask)
{
    struct msg_slot slot = { ask->service, ask->deployment, 1, 60000 };

    w->asks++;
    if (!w->hold_slots)
        assert_int_equal(link_send(w->link, MSG_SLOT, &slot, NULL), 0);
}

static inline void world_take_report(struct world *w, const struct msg_report *r)
{
    AUTO_BUF copy = BUF_INIT;
    void *report;

    assert_int_equal(codec_encode(&copy, msg_codec(MSG_REPORT), r, NULL), 0);
    assert_int_equal(codec_decode(&report, msg_codec(MSG_REPORT), copy.data, copy.len, NULL), 0);
    codec_free(msg_codec(MSG_REPORT), w->report);
    w->report = report;
    w->reports++;
    if (getenv("WORLD_TRACE") != NULL)
        print_message("report gen %llu phase %d verdict %d %s\n", (unsigned long long)r->generation,
                      r->phase, r->verdict, r->reason);
}

static inline void world_message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct world *w = ctx;

    if (exchange_message(w->exchange, l, type, msg))
        return;
    if (type == MSG_MACHINE) {
        w->machines++;
        for (int i = 0; i < w->ndocs && !w->mute; i++)
            world_send(w, &w->docs[i]);
    }
    if (type == MSG_SLOT_ASK)
        world_slot(w, msg);
    w->frees += type == MSG_SLOT_FREE;
    if (type == MSG_REPORT)
        world_take_report(w, msg);
    if (type == MSG_PROGRESS) {
        w->progress++;
        w->told = *(const struct msg_progress *)msg;
        snprintf(w->told_deployment, sizeof(w->told_deployment), "%s", w->told.deployment);
        w->told.service = w->told.deployment = NULL;
    }
}

static inline void world_drained(void *ctx, struct link *l)
{
    exchange_drained(((struct world *)ctx)->exchange, l);
}

static inline void world_closed(void *ctx, struct link *l, const struct err *why)
{
    struct world *w = ctx;

    (void)why;
    exchange_detach(w->exchange, l);
    if (w->link == l)
        w->link = NULL;
}

static const struct link_handler world_handler = { world_opened, world_message, world_drained,
                                                   world_closed };

/* --- waiting --- */

static inline void world_guard(struct timer *t)
{
    (void)t;
    print_error("nothing more happens\n");
    abort();
}

static inline void world_look(struct timer *t)
{
    struct world *w = CONTAINER_OF(t, struct world, watch);

    if (w->wanted(w))
        loop_stop(w->loop);
}

static inline void world_until(struct world *w, bool (*wanted)(struct world *w))
{
    w->wanted = wanted;
    timer_start(w->loop, &w->guard, WORLD_GUARD_MS, 0, world_guard);
    timer_start(w->loop, &w->watch, 0, 10, world_look);
    loop_run(w->loop);
    timer_stop(&w->guard);
    timer_stop(&w->watch);
}

static inline bool world_is_reported(struct world *w)
{
    return w->report != NULL && w->report->generation == w->generation &&
           w->report->phase == w->want_phase && hash_equal(&w->report->release, &w->want_release);
}

/* Until the agent has reported that phase of that release under the newest generation. */
static inline void world_until_report(struct world *w, enum report_phase phase,
                                      const struct hash *release)
{
    w->want_phase = phase;
    w->want_release = *release;
    world_until(w, world_is_reported);
}

/* --- the agent --- */

/* This program again, as an agent or as its guard? */
static inline bool world_is_agent(int argc, char **argv)
{
    return argc > 5 && (strcmp(argv[1], "--agent") == 0 || strcmp(argv[1], "guard") == 0);
}

static inline int world_agent_main(int argc, char **argv)
{
    static const struct label labels[] = { { "rack", "a" } };
    struct agent_options o = { .region_host = "127.0.0.1",
                               .region_port = atoi(argv[2]),
                               .identity_dir = argv[3],
                               .root = argv[4],
                               .listen = "127.0.0.1:0",
                               .labels = labels,
                               .nlabels = 1,
                               .parent_fd = atoi(argv[5]),
                               .stop_services = argc > 6 && strcmp(argv[6], "stop") == 0,
                               .keep_packs_ms = argc > 7 ? atoi(argv[7]) : 0 };
    struct err err = ERR_INIT;

    log_setup("agent", 2);
    if (strcmp(argv[1], "guard") == 0)
        return guard_main(argv[3], atoi(argv[5]), &err) == 0 ? 0 : 1;
    if (agent_main_loop(&o, &err) == 0)
        return 0;
    log_error("%s", err.text);
    return 1;
}

static inline void world_agent_ended(struct proc_watch *watch, int status)
{
    struct world *w = CONTAINER_OF(watch, struct world, ended);

    w->agent_is_up = false;
    w->agent_status = status;
}

static inline void world_agent(struct world *w, bool stop_services)
{
    char port[16], fd[16], identity[512];
    const char *argv[] = {
        "/proc/self/exe", "--agent", port, identity, w->root, fd, stop_services ? "stop" : "keep",
        w->keep_packs,    NULL
    };
    struct proc_options o = {
        .argv = (char *const *)(uintptr_t)argv, .stdin_fd = -1, .stdout_fd = 2, .stderr_fd = 2
    };
    struct err err = ERR_INIT;
    int pipes[2];

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    w->parent_pipe = pipes[1];
    snprintf(port, sizeof(port), "%d", link_listener_port(w->listener));
    snprintf(fd, sizeof(fd), "%d", pipes[0]);
    snprintf(identity, sizeof(identity), "%s/m-01", w->dir);
    o.keep_fd = pipes[0];
    assert_ok(proc_spawn(&w->agent, &o, &err), &err);
    close(pipes[0]);
    assert_ok(proc_watch_start(w->loop, &w->ended, w->agent, world_agent_ended, &err), &err);
    w->agent_is_up = true;
}

static inline bool world_agent_is_gone(struct world *w)
{
    return !w->agent_is_up && w->link == NULL;
}

/* Returns its wait status. */
static inline int world_end_agent(struct world *w, int signo)
{
    if (signo > 0)
        kill(w->agent, signo);
    else
        close(w->parent_pipe);
    world_until(w, world_agent_is_gone);
    if (signo > 0)
        close(w->parent_pipe);
    return w->agent_status;
}

/* --- life --- */

static inline void world_start(struct world *w)
{
    struct err err = ERR_INIT;
    struct exchange_options x = { .seed = 1 };
    AUTO_FREE char *ca = NULL, *region = NULL, *machine = NULL, *pin_path = NULL;
    char pin[HASH_HEX];

    memset(w, 0, sizeof(*w));
    w->dir = tmpdir_fresh();
    w->root = tmpdir_fresh();
    w->root_key = world_key(1);
    w->release_key = world_key(2);
    w->goal_key = world_key(3);
    ca = mem_printf("%s/ca", w->dir);
    region = mem_printf("%s/r1", w->dir);
    machine = mem_printf("%s/m-01", w->dir);
    pin_path = mem_printf("%s/root.pub", machine);
    assert_ok(dir_make(ca, 0700, &err), &err);
    assert_ok(dir_make(region, 0700, &err), &err);
    assert_ok(dir_make(machine, 0700, &err), &err);
    assert_ok(pki_make_ca(ca, "c", &err), &err);
    assert_ok(pki_issue(ca, region, "c", ROLE_REGION, "r1", &err), &err);
    assert_ok(pki_issue(ca, machine, "c", ROLE_AGENT, "m-01", &err), &err);
    key_hex(&w->root_key, pin);
    assert_ok(file_publish(pin_path, pin, strlen(pin), 0600, &err), &err);
    assert_ok(store_open(&w->store, tmpdir_fresh(), &err), &err);
    assert_ok(loop_new(&w->loop, &err), &err);
    assert_ok(work_pool_new(&w->pool, w->loop, 1, &err), &err);
    x.loop = w->loop;
    x.pool = w->pool;
    x.dir = tmpdir_fresh();
    assert_ok(exchange_new(&w->exchange, &x, &err), &err);
    assert_ok(link_identity_load(&w->self, region, "r1", &err), &err);
    assert_ok(link_listen(&w->listener, w->loop, w->self, "127.0.0.1:0", 1u << ROLE_AGENT, 10,
                          &world_handler, w, &err),
              &err);
    world_trust(w, 1, "");
}

static inline void world_stop(struct world *w)
{
    assert_false(w->agent_is_up);
    link_listener_close(w->listener);
    work_pool_free(w->pool);
    exchange_free(w->exchange);
    link_identity_free(w->self);
    store_close(w->store);
    loop_free(w->loop);
    for (int i = 0; i < w->ndocs; i++) {
        buf_release(&w->docs[i].bytes);
        codec_free(msg_codec(MSG_SOURCES), w->docs[i].sources);
    }
    codec_free(msg_codec(MSG_REPORT), w->report);
}

/* The text of a file below the agent's root, or "". The caller frees it. */
static inline char *world_file(const struct world *w, const char *name)
{
    AUTO_FREE char *path = mem_printf("%s/%s", w->root, name);
    char *text = tmpdir_read(path, NULL);

    return text == NULL ? mem_strdup("") : text;
}

/* pid in a service's run file. */
static inline pid_t world_pid(const struct world *w, const char *service)
{
    AUTO_FREE char *name = mem_printf("services/%s/run", service);
    AUTO_FREE char *text = world_file(w, name);
    const char *at = strstr(text, "\"pid\":");

    return at == NULL ? 0 : (pid_t)atoi(at + 6);
}

#endif
