/* world.h - a region node among a control plane and machines that a test plays: real links, real
 * certificates, real signatures and a real origin store, on one loop.
 *
 *     world_init(&w)                      keys, certificates, an origin with one artifact, and the
 *                                         control plane's listener
 *     world_start(&w)                     the region node
 *     agent_start(&w, &a, "m1", "rack1")  a machine; its MACHINE is sent
 *     WORLD_UNTIL(&w, condition)          runs the loop until it is true; the test fails after 30 s
 *     world_stop(&w)                      a clean stop of the region node; world_start() again...
 *     player_release(&a); world_release(&w) */
#ifndef TESTS_REGION_WORLD_H
#define TESTS_REGION_WORLD_H

#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/link.h"
#include "io/pki.h"
#include "lib/tmpdir.h"
#include "lib/trees.h"
#include "region/region.h"
#include "store/publish.h"
#include "wire/doc.h"

enum { WORLD_MESSAGES_MAX = 4096, WORLD_AGENTS_MAX = 16 };

struct received {
    enum msg_type type;
    void *msg;
};

/* Who plays against the region node: the control plane, or a machine. */
struct player {
    struct world *w;
    char *id;
    struct link_identity *identity;
    struct link *link; /* NULL: none */
    bool open;
    struct err why; /* it was closed */
    struct received got[WORLD_MESSAGES_MAX];
    size_t ngot;
    char *boot;
};

struct world {
    struct loop *loop;
    char *dir, *ca, *origin_dir, *data;
    struct store *origin;
    struct published artifact;
    struct secret_key root, release_key, goal_key;
    struct player control;
    struct link_listener *listener;
    struct region *region;
    struct region_options options;
    char *identity;
    int port;  /* of the region node */
    int links; /* that have not been closed yet */
    struct timer poll;
    bool closed;
};

static inline void world_poll(struct timer *t)
{
    loop_stop(CONTAINER_OF(t, struct world, poll)->loop);
}

/* A few turns of the loop: until the next millisecond or so has passed. */
static inline void world_turn(struct world *w)
{
    timer_start(w->loop, &w->poll, 2, 0, world_poll);
    loop_run(w->loop);
}

#define WORLD_UNTIL(w, condition)                                             \
    do {                                                                      \
        int64_t world_deadline = monotonic_ms() + 30000;                      \
        while (!(condition)) {                                                \
            if (monotonic_ms() > world_deadline)                              \
                fail_msg("%s:%d: never: %s", __FILE__, __LINE__, #condition); \
            world_turn(w);                                                    \
        }                                                                     \
    } while (0)

static inline void player_opened(void *ctx, struct link *l)
{
    struct player *p = ctx;

    p->link = l;
    p->open = true;
}

static inline void player_message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct player *p = ctx;
    AUTO_BUF bytes = BUF_INIT;
    struct err err = ERR_INIT;
    struct received *r;

    if (p->link != l)
        return;
    assert_true(p->ngot < WORLD_MESSAGES_MAX);
    r = &p->got[p->ngot++];
    r->type = type;
    r->msg = NULL;
    assert_ok(codec_encode(&bytes, msg_codec(type), msg, &err), &err);
    assert_ok(codec_decode(&r->msg, msg_codec(type), bytes.data, bytes.len, &err), &err);
}

static inline void player_closed(void *ctx, struct link *l, const struct err *why)
{
    struct player *p = ctx;

    p->w->links--;
    if (p->link != l)
        return;
    p->link = NULL;
    p->open = false;
    p->why = *why;
}

static const struct link_handler player_handler = { player_opened, player_message, NULL,
                                                    player_closed };

static inline void control_opened(void *ctx, struct link *l)
{
    struct player *p = ctx;

    p->w->links++;
    player_opened(ctx, l);
}

static const struct link_handler control_handler = { control_opened, player_message, NULL,
                                                     player_closed };

static inline void got_forget(struct player *p)
{
    for (size_t i = 0; i < p->ngot; i++)
        codec_free(msg_codec(p->got[i].type), p->got[i].msg);
    p->ngot = 0;
}

/* The last message of that type that the player got, or NULL. */
static inline const void *got_last(const struct player *p, enum msg_type type)
{
    for (size_t i = p->ngot; i-- > 0;) {
        if (p->got[i].type == type)
            return p->got[i].msg;
    }
    return NULL;
}

static inline size_t got_count(const struct player *p, enum msg_type type)
{
    size_t n = 0;

    for (size_t i = 0; i < p->ngot; i++)
        n += p->got[i].type == type;
    return n;
}

/* Where, among all that it got, the first document of that kind stands; -1: nowhere. */
static inline int got_doc(const struct player *p, enum doc_kind kind)
{
    for (size_t i = 0; i < p->ngot; i++) {
        if (p->got[i].type == MSG_DOC && ((const struct msg_doc *)p->got[i].msg)->kind == kind)
            return (int)i;
    }
    return -1;
}

static inline int got_at(const struct player *p, enum msg_type type)
{
    for (size_t i = 0; i < p->ngot; i++) {
        if (p->got[i].type == type)
            return (int)i;
    }
    return -1;
}

static inline char *world_identity(struct world *w, enum link_role role, const char *id)
{
    struct err err = ERR_INIT;
    char *dir = mem_printf("%s/id-%s", w->dir, id);
    struct public_key pin = key_public(&w->root);
    char hex[2 * KEY_BYTES + 1];
    AUTO_BUF path = BUF_INIT;

    assert_ok(dir_make(dir, 0700, &err), &err);
    assert_ok(pki_issue(w->ca, dir, "test", role, id, &err), &err);
    hex_encode(hex, pin.b, KEY_BYTES);
    buf_printf(&path, "%s/root.pub", dir);
    tmpdir_write(path.data, hex, strlen(hex));
    return dir;
}

static inline void player_init(struct player *p, struct world *w, enum link_role role,
                               const char *id, const char *region)
{
    struct err err = ERR_INIT;
    char *dir = world_identity(w, role, id);

    p->w = w;
    p->id = mem_strdup(id);
    p->boot = mem_strdup("boot-1");
    assert_ok(link_identity_load(&p->identity, dir, region, &err), &err);
    free(dir);
}

static inline void player_release(struct player *p)
{
    got_forget(p);
    link_identity_free(p->identity);
    free(p->id);
    free(p->boot);
    memset(p, 0, sizeof(*p));
}

static inline void world_publish_bytes(struct world *w, uint64_t seed, size_t len,
                                       struct published *ret)
{
    struct err err = ERR_INIT;
    struct random random = { seed };
    uint64_t *data = mem_calloc(len / 8 + 1, 8);
    char *file = mem_printf("%s/app", tmpdir_fresh());

    for (size_t i = 0; i < len / 8; i++)
        data[i] = random_next(&random);
    tmpdir_write(file, data, len);
    assert_ok(artifact_publish(w->origin, file, NULL, ret, &err), &err);
    free(data);
    free(file);
}

static inline void world_publish(struct world *w, uint64_t seed, struct published *ret)
{
    world_publish_bytes(w, seed, (5 << 20) + 123, ret);
}

static inline void world_init(struct world *w)
{
    struct err err = ERR_INIT;

    memset(w, 0, sizeof(*w));
    w->dir = mem_strdup(tmpdir_fresh());
    w->ca = mem_printf("%s/ca", w->dir);
    w->origin_dir = mem_printf("%s/origin", w->dir);
    w->data = mem_printf("%s/data", w->dir);
    memset(w->root.seed, 1, KEY_BYTES);
    memset(w->release_key.seed, 2, KEY_BYTES);
    memset(w->goal_key.seed, 3, KEY_BYTES);
    assert_ok(loop_new(&w->loop, &err), &err);
    assert_ok(dir_make(w->ca, 0700, &err), &err);
    assert_ok(pki_make_ca(w->ca, "test", &err), &err);
    assert_ok(store_open(&w->origin, w->origin_dir, &err), &err);
    world_publish(w, 42, &w->artifact);
    player_init(&w->control, w, ROLE_CONTROL, "control", "");
    assert_ok(link_listen(&w->listener, w->loop, w->control.identity, "127.0.0.1:0",
                          1U << ROLE_REGION, 10, &control_handler, &w->control, &err),
              &err);
    w->identity = world_identity(w, ROLE_REGION, "r1");
    w->options = (struct region_options){ .name = "r1",
                                          .identity = w->identity,
                                          .control_host = "127.0.0.1",
                                          .control_port = link_listener_port(w->listener),
                                          .store = w->origin_dir,
                                          .data = w->data,
                                          .listen = "127.0.0.1:0",
                                          .parent_fd = -1 };
}

static inline void world_start(struct world *w)
{
    struct err err = ERR_INIT;

    w->closed = false;
    assert_ok(region_new(&w->region, w->loop, &w->options, &err), &err);
    w->port = region_port(w->region);
}

static inline void world_closed(void *arg)
{
    ((struct world *)arg)->closed = true;
}

/* A clean stop of the region node. */
static inline void world_stop(struct world *w)
{
    region_close(w->region, world_closed, w);
    WORLD_UNTIL(w, w->closed);
    region_free(w->region);
    w->region = NULL;
}

static inline void world_release(struct world *w)
{
    if (w->region != NULL)
        world_stop(w);
    link_listener_close(w->listener);
    WORLD_UNTIL(w, w->links == 0);
    player_release(&w->control);
    store_close(w->origin);
    loop_free(w->loop);
    free(w->dir);
    free(w->ca);
    free(w->origin_dir);
    free(w->data);
    free(w->identity);
}

static inline void key_hex(const struct secret_key *k, char out[2 * KEY_BYTES + 1])
{
    struct public_key pub = key_public(k);

    hex_encode(out, pub.b, KEY_BYTES);
}

/* Signs a JSON text, given as for printf. */
static inline void sign(struct buf *out, enum doc_kind kind, const struct secret_key *key,
                        const char *fmt, ...) PRINTF_LIKE(4, 5);
static inline void sign(struct buf *out, enum doc_kind kind, const struct secret_key *key,
                        const char *fmt, ...)
{
    AUTO_BUF body = BUF_INIT;
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&body, fmt, args);
    va_end(args);
    buf_reset(out);
    doc_sign(out, kind, body.data, body.len, key);
}

/* deny: "" or a JSON list's inside, e.g. "\"m1\"". */
static inline void trust_doc(struct world *w, uint64_t version, const char *deny, struct buf *out)
{
    char root[65], release[65], goal[65];

    key_hex(&w->root, root);
    key_hex(&w->release_key, release);
    key_hex(&w->goal_key, goal);
    sign(out, DOC_TRUST, &w->root,
         "{\"v\":1,\"cluster\":\"test\",\"version\":%llu,\"issued\":1,\"root\":\"%s\","
         "\"release\":[\"%s\"],\"goal\":[\"%s\"],\"deny\":[%s]}",
         (unsigned long long)version, root, release, goal, deny);
}

static inline struct hash release_doc(struct world *w, const char *service,
                                      const struct published *what, struct buf *out)
{
    char hex[HASH_HEX];

    sign(out, DOC_RELEASE, &w->release_key,
         "{\"v\":1,\"cluster\":\"test\",\"service\":\"%s\",\"commit\":"
         "\"0123456789012345678901234567890123456789\",\"created\":1,\"variant\":{},"
         "\"artifacts\":[{\"variant\":\"default\",\"artifact\":\"%s\",\"bytes\":%llu,\"files\":1}],"
         "\"activate\":{\"mode\":\"process\",\"start\":[\"./app\"],\"stop\":null,\"env\":{}},"
         "\"health\":null}",
         service, hash_hex(&what->artifact, hex), (unsigned long long)what->stream_bytes);
    return sha256_of(out->data, out->len);
}

struct goal_text {
    const char *service, *deployment, *region, *select, *action;
    uint64_t generation;
    const struct hash *release, *rollback_to; /* NULL: none */
    unsigned max_moving;
    bool activate, urgent;
    int64_t lives_ms;
};

static inline void hash_json(const struct hash *h, char out[80])
{
    char hex[HASH_HEX];

    if (h == NULL)
        snprintf(out, 80, "null");
    else
        snprintf(out, 80, "\"%s\"", hash_hex(h, hex));
}

static inline void goal_doc(struct world *w, const struct goal_text *g, struct buf *out)
{
    static const char all[] = "[{\"where\":{},\"threshold\":\"ffffffffffffffff\"}]";
    char release[80], rollback_to[80];
    int64_t now = wall_ms();

    hash_json(g->release, release);
    hash_json(g->rollback_to, rollback_to);
    sign(out, DOC_GOAL, &w->goal_key,
         "{\"v\":1,\"cluster\":\"test\",\"region\":\"%s\",\"service\":\"%s\",\"generation\":%llu,"
         "\"issued\":%lld,\"expires\":%lld,\"deployment\":\"%s\",\"release\":%s,\"rollback_to\":%s,"
         "\"select\":%s,\"stage\":%s,\"activate\":%s,\"max_moving\":%u,\"action\":\"%s\","
         "\"urgent\":%s}",
         g->region == NULL ? "r1" : g->region, g->service, (unsigned long long)g->generation,
         (long long)now, (long long)(now + (g->lives_ms == 0 ? 3600000 : g->lives_ms)),
         g->deployment, release, rollback_to, g->select == NULL ? "{}" : g->select, all,
         g->activate ? all : "[]", g->max_moving == 0 ? 10 : g->max_moving,
         g->action == NULL ? "run" : g->action, g->urgent ? "true" : "false");
}

static inline void player_send(struct player *p, enum msg_type type, const void *msg)
{
    struct err err = ERR_INIT;

    assert_non_null(p->link);
    assert_ok(link_send(p->link, type, msg, &err), &err);
}

static inline void control_doc(struct world *w, enum doc_kind kind, const struct buf *doc)
{
    struct msg_doc msg = { (uint8_t)kind, { (unsigned char *)doc->data, doc->len } };

    player_send(&w->control, MSG_DOC, &msg);
}

static inline void control_replicate(struct world *w, const struct published *what)
{
    struct msg_pack pack = { what->pack };
    struct msg_artifact artifact = { (char *)(uintptr_t) "default", what->artifact, { &pack, 1 } };
    struct msg_replicate msg = { (char *)(uintptr_t) "d-1", { &artifact, 1 } };

    player_send(&w->control, MSG_REPLICATE, &msg);
}

/* One wave of everybody that `select` takes. */
static inline void control_plan(struct world *w, const char *deployment, const char *service,
                                const char *select, const struct hash *release,
                                const struct hash *rollback_to)
{
    char any[] = "{}";
    struct msg_rule rule = { 0, any, UINT64_MAX };
    struct msg_plan msg = { .deployment = (char *)(uintptr_t)deployment,
                            .service = (char *)(uintptr_t)service,
                            .select = (char *)(uintptr_t)select,
                            .variant = any,
                            .release = *release,
                            .waves = 1,
                            .rules = { &rule, 1 } };

    if (rollback_to != NULL)
        msg.rollback_to = *rollback_to;
    player_send(&w->control, MSG_PLAN, &msg);
}

static inline void agent_connect(struct world *w, struct player *a, const char *id)
{
    struct err err = ERR_INIT;

    if (a->identity == NULL)
        player_init(a, w, ROLE_AGENT, id, "r1");
    a->open = false;
    w->links++;
    assert_ok(link_connect(&a->link, w->loop, a->identity, "127.0.0.1", w->port, ROLE_REGION, "r1",
                           &player_handler, a, &err),
              &err);
    WORLD_UNTIL(w, a->open || a->link == NULL);
}

/* runs: of `service`, or NULL. */
static inline void agent_machine(struct player *a, const char *rack, const char *service,
                                 const struct hash *runs)
{
    char key[] = "rack", host[] = "127.0.0.1";
    struct msg_label label = { key, (char *)(uintptr_t)rack };
    struct msg_service v = { .service = (char *)(uintptr_t)service };
    struct msg_machine msg = { { &label, 1 }, a->boot, host, 7000, { &v, runs == NULL ? 0 : 1 } };

    if (runs != NULL)
        v.release = *runs;
    player_send(a, MSG_MACHINE, &msg);
}

static inline void agent_start(struct world *w, struct player *a, const char *id, const char *rack)
{
    agent_connect(w, a, id);
    assert_true(a->open);
    agent_machine(a, rack, "", NULL);
}

static inline void agent_stop(struct world *w, struct player *a)
{
    if (a->link != NULL)
        link_close(a->link, ERR_CANCELLED, "over");
    WORLD_UNTIL(w, a->link == NULL);
    got_forget(a);
}

static inline void agent_report(struct player *a, const char *service, const char *deployment,
                                const struct hash *release, uint64_t generation,
                                enum report_phase phase, enum verdict verdict, const char *reason)
{
    struct msg_report msg = { .service = (char *)(uintptr_t)service,
                              .deployment = (char *)(uintptr_t)deployment,
                              .release = *release,
                              .generation = generation,
                              .boot = a->boot,
                              .phase = (uint8_t)phase,
                              .verdict = (uint8_t)verdict,
                              .reason = (char *)(uintptr_t)reason };

    player_send(a, MSG_REPORT, &msg);
}

static inline void agent_ask_slot(struct player *a, const char *service, const char *deployment,
                                  const struct hash *release, uint64_t generation)
{
    struct msg_slot_ask msg = { (char *)(uintptr_t)service, (char *)(uintptr_t)deployment, *release,
                                generation };

    player_send(a, MSG_SLOT_ASK, &msg);
}

/* The counts of wave 0 that the control plane was told last; all zero: none yet. */
static inline struct msg_wave_counts wave_now(const struct world *w)
{
    const struct msg_counts *c = got_last(&w->control, MSG_COUNTS);

    return c == NULL ? (struct msg_wave_counts){ .wave = 0 }
                     : *(const struct msg_wave_counts *)c->waves.items;
}

/* The control plane tells all that a deployment d-1 of "web" needs; ends when the node is linked. */
static inline struct hash begin(struct world *w, uint64_t generation, unsigned max_moving)
{
    AUTO_BUF doc = BUF_INIT;
    struct goal_text g = { .service = "web",
                           .deployment = "d-1",
                           .generation = generation,
                           .max_moving = max_moving,
                           .activate = true };
    struct hash release;

    WORLD_UNTIL(w, w->control.open);
    trust_doc(w, 1, "", &doc);
    control_doc(w, DOC_TRUST, &doc);
    release = release_doc(w, "web", &w->artifact, &doc);
    control_doc(w, DOC_RELEASE, &doc);
    control_replicate(w, &w->artifact);
    control_plan(w, "d-1", "web", "{}", &release, NULL);
    g.release = &release;
    goal_doc(w, &g, &doc);
    control_doc(w, DOC_GOAL, &doc);
    return release;
}

static inline bool verified(const struct world *w)
{
    const struct msg_replica *m = got_last(&w->control, MSG_REPLICA);

    return m != NULL && m->state == REPLICA_VERIFIED;
}

static inline bool has_pack(struct world *w, const struct published *what)
{
    AUTO_BUF path = BUF_INIT;
    char hex[HASH_HEX];

    hash_hex(&what->pack, hex);
    buf_printf(&path, "%s/store/pack/%.2s/%s", w->data, hex, hex + 2);
    return path_exists(path.data);
}

#endif
