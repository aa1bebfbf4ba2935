/* world_docs.h - the part of world.h that makes things: releases, deltas between them, and the signed
 * documents that name them. */
#ifndef UNIT_AGENT_WORLD_DOCS_H
#define UNIT_AGENT_WORLD_DOCS_H

#include "lib/check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/hex.h"
#include "base/mem.h"
#include "io/pki.h"
#include "io/proc.h"
#include "lib/tmpdir.h"
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
    struct msg_progress told; /* the last PROGRESS, without its texts and lists */
    struct msg_fetch told_fetch;
    char told_deployment[NAME_MAX_BYTES + 1];
    const char *keep_packs; /* milliseconds, or NULL */
    const char *limit_down; /* bytes a second, or NULL */
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

/* A delta pack that nobody gives yet. */
static inline struct published_delta world_late_delta(struct world *w, const struct published *base,
                                                      const struct published *target)
{
    struct delta_side from = { base->artifact, base->pack };
    struct delta_side to = { target->artifact, target->pack };
    struct published_delta d;
    struct err err = ERR_INIT;

    assert_ok(artifact_publish_delta(w->store, &from, &to, NULL, &d, &err), &err);
    assert_false(hash_is_zero(&d.pack));
    published_delta_release(&d);
    return d;
}

/* One that is seeded; it is offered by world_offer(). */
static inline struct published_delta world_delta(struct world *w, const struct published *base,
                                                 const struct published *target)
{
    struct published_delta d = world_late_delta(w, base, target);

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

#endif
