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
#include "world_docs.h"

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
        w->told_fetch = w->told.fetch.count == 0 ? (struct msg_fetch){ .done = 0 }
                                                 : *(const struct msg_fetch *)w->told.fetch.items;
        w->told.fetch = w->told_fetch.banned = (struct list_of){ NULL, 0 };
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
                               .keep_packs_ms = argc > 7 ? atoi(argv[7]) : 0,
                               .down_bytes = argc > 8 ? (uint64_t)atoll(argv[8]) : 0 };
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
    const char *argv[] = { "/proc/self/exe",
                           "--agent",
                           port,
                           identity,
                           w->root,
                           fd,
                           stop_services ? "stop" : "keep",
                           w->keep_packs == NULL ? "0" : w->keep_packs,
                           w->limit_down,
                           NULL };
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
