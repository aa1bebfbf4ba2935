/* machines.h - what a region node knows of its machines, and how it counts them.
 *
 * A machine is known from its first MACHINE on and stays known when it is away, so that totals
 * survive restarts. Its labels are what it says, but "region" and "machine": these are ours to
 * say, from our own name and its certificate. Of each service it has its last report, and its progress in
 * the last two deployments: what it goes back to after a rollback, it fetched for another one.
 *
 * Counting goes by plan (PLAN): a machine that `select` takes is in the wave of the first rule that
 * takes it, or in none (counted as wave number `waves`). What is counted, of the plan's release:
 *
 *   total       machines in the wave                  reachable   link up, or lost less than
 *                                                                 REGION_REACHABLE_MS ago
 *   staged      reachable, and on disk, or beyond     activated   switched to it, healthy or not
 *   healthy     reachable, a fresh report says so     bad         a report says so (it latches), or
 *                                                                 it cannot stage just now
 *   unknown     cannot tell: it says so, or has activated and is not reachable or has not yet
 *               reported since its machine booted, or since this node started
 *   previous    reachable, and a fresh report says that rollback_to is healthy
 *   rolled_back has activated the release in this deployment, and now reports rollback_to healthy,
 *               or that it stopped
 *
 * Silence is never healthy: an unreachable machine is in total, activated, bad and unknown only.
 * The figures of the deployment's swarm (swarm/figures.h) are of all machines that told progress of it.
 * drift counts machines that run the service although `select` does not take them.
 * Beside all plans, how many machines run which release of each service is kept up (running.h).
 *
 * Pure: no clock, no file; times are ms of one steady clock. Changes are collected for saving in
 * `unsaved` (region/state.h) and for counting in each plan's `dirty`. */
#ifndef REGION_MACHINES_H
#define REGION_MACHINES_H

#include "base/list.h"
#include "base/map.h"
#include "region/running.h"
#include "wire/msg.h"
#include "wire/predicate.h"

enum {
    REGION_REACHABLE_MS = 30000,
    REGION_MACHINES_MAX = 65536,
    REGION_PLANS_MAX = 2048,
    REGION_SERVICE_PLANS_MAX = 4,            /* of one service; the oldest goes */
    MACHINE_SERVICES_MAX = 2 * SERVICES_MAX, /* that one machine has ever named */
    MACHINE_PROGRESS = 2,
};

struct machine_service {
    char *name;
    struct hash runs;                                /* as last heard; zero: nothing */
    struct msg_report *report;                       /* the last one, or NULL */
    struct msg_progress *progress[MACHINE_PROGRESS]; /* of a deployment each, told last first */
    uint64_t refused; /* progress that was absurd; told with the deployment's figures */
    char *moved;      /* the last deployment whose release it activated, or NULL */
    bool remembered;  /* the report is from before we started: it tells no longer who is healthy */
    bool unsaved, progress_unsaved;
};

struct machine {
    char *id;
    size_t at; /* its index, for ever */
    struct msg_machine *self;
    struct label *labels; /* of self, with region and machine; borrowed from it and us */
    size_t nlabels;
    uint32_t epoch; /* of its labels */
    bool linked, reachable;
    int64_t seen_ms; /* when the link was lost */
    struct machine_service *services;
    size_t nservices, cap;
    void *user; /* whose link it is */
    bool unsaved;
    struct list node; /* in unsaved, if it or a service of it is */
};

struct count_plan;

struct machines {
    char *region;
    struct map by_id;
    struct machine **all; /* in order of appearance */
    size_t count, cap;
    size_t nlinked, nreachable;
    struct count_plan **plans; /* in order of arrival */
    size_t nplans, plans_cap;
    struct list unsaved;
    struct running running; /* what they run, as last heard; who is away too */
};

struct machines *machines_new(const char *region);
void machines_free(struct machines *ms);

struct machine *machines_find(const struct machines *ms, const char *id); /* or NULL */

/* A machine is here and says what it is. -ERR_INVALID: a label without key or twice, a service
 * whose name is none; -ERR_LIMIT: REGION_MACHINES_MAX. *ret is ours. */
MUST_CHECK int machines_hello(struct machines *ms, const char *id, const struct msg_machine *hello,
                              int64_t now_ms, struct machine **ret, struct err *err);
/* Its link is gone. */
void machines_lost(struct machines *ms, struct machine *m, int64_t now_ms);
/* Takes up what was known before this process started: seen_ms is when it was last here. */
MUST_CHECK int machines_restore(struct machines *ms, const char *id, const struct msg_machine *self,
                                int64_t seen_ms, int64_t now_ms, struct machine **ret,
                                struct err *err);
void machines_restore_report(struct machines *ms, struct machine *m, const char *service,
                             const struct hash *runs, const struct msg_report *report,
                             const char *moved);

/* -ERR_FENCED: of another boot, or older than the one we have; nothing changed. */
MUST_CHECK int machines_report(struct machines *ms, struct machine *m, const struct msg_report *r,
                               struct err *err);
/* limit_bytes: the most that the machine can have fetched; 0: not known. Of those that it names as banned
 * only machines of this region are kept. -ERR_INVALID: absurd (swarm/figures.h), nothing of it
 * counts; -ERR_LIMIT. */
MUST_CHECK int machines_progress(struct machines *ms, struct machine *m,
                                 const struct msg_progress *p, uint64_t limit_bytes,
                                 struct err *err);
/* Takes up what was told before this process started; what is absurd is left out. */
void machines_restore_progress(struct machines *ms, struct machine *m,
                               const struct msg_progress *p);

/* Who has become unreachable by now. Call it about once a second. */
void machines_tick(struct machines *ms, int64_t now_ms);

const struct machine_service *machine_service(const struct machine *m, const char *name);
/* What it told of that deployment, or NULL. */
const struct msg_progress *machine_progress(const struct machine_service *v,
                                            const char *deployment);
const char *machine_label(const struct machine *m, const char *key); /* or NULL */
bool machine_runs(const struct machine *m, const char *service);

/* Something else about the service has changed: its plans are to be counted again. */
void machines_touch(struct machines *ms, const char *service);

/* The plan of a deployment, new or again. -ERR_INVALID: a predicate or rule is malformed. */
MUST_CHECK int machines_plan(struct machines *ms, const struct msg_plan *msg, struct err *err);

struct count_plan {
    char *deployment, *service;
    struct hash release, rollback_to;
    struct predicate *select;
    json_t *variant;
    uint32_t waves;
    struct count_rule {
        uint32_t wave;
        struct predicate *where;
        uint64_t threshold;
    } * rules;
    size_t nrules;
    struct count_member { /* by machine->at: which wave, as of its labels' epoch */
        uint32_t epoch, wave;
    } * members;
    size_t nmembers;
    bool dirty;
    bool named;      /* a goal has named its deployment; the user's, like */
    struct buf sent; /* the last COUNTS, encoded; the user's, to send changes only */
};

/* Fills *ret (its texts and lists are its own: release it with codec_release(msg_codec(MSG_COUNTS),
 * ret)) and clears plan->dirty. */
void machines_count(struct machines *ms, struct count_plan *plan, uint64_t generation,
                    uint64_t slots_used, struct msg_counts *ret);

/* Answers; -ERR_INVALID: a malformed predicate or variant rule. Released likewise. */
MUST_CHECK int machines_fleet(const struct machines *ms, const struct msg_fleet_ask *ask,
                              struct msg_fleet *ret, struct err *err);
MUST_CHECK int machines_quantile(const struct machines *ms, const struct msg_quantile_ask *ask,
                                 struct msg_quantile *ret, struct err *err);

/* A copy that owns everything: free it with codec_free(). msg holds to its codec's limits. */
void *msg_copy(enum msg_type type, const void *msg);

#endif
