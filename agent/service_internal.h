/* service_internal.h - what the files of a service share: service.c decides, service_switch.c moves
 * from one release to another, service_run.c starts and stops. */
#ifndef AGENT_SERVICE_INTERNAL_H
#define AGENT_SERVICE_INTERNAL_H

#include "health.h"
#include "journal.h"
#include "process.h"
#include "run.h"
#include "service.h"
#include "stage.h"

/* What is under way; only in REST is a next thing begun. */
enum service_step {
    STEP_REST = 0,
    STEP_VERIFY, /* work pool: is a release on disk what it should be? */
    STEP_STOP,   /* the active release is being stopped */
    STEP_START,  /* the start command of mode "command" runs */
    STEP_REMOVE, /* work pool: the service is removed from disk */
};

struct sources {
    struct hash release, artifact;
    struct hash packs[STAGE_PACKS_MAX]; /* the full one, then deltas */
    size_t npacks;
};

struct service {
    struct service_host host;
    char *name, *dir, *state_path, *run_path, *log_path, *tag;
    struct journal journal;
    struct release *active; /* of journal.release; NULL: none, or its document does not hold */
    enum service_step step;
    struct timer poke, retry;

    /* verifying, in the work pool */
    struct work work;
    struct hash checked, checked_artifact;
    bool check_tree, kill_leftovers;
    int status;
    struct err err;
    struct hash verified[SERVICE_VERIFIED_MAX]; /* by this process */
    int nverified;

    /* running */
    struct process main, helper;
    struct timer helper_limit, restart;
    void (*after_stop)(struct service *s);
    bool leftovers_gone; /* nothing of an agent before us is left running */
    bool up;             /* mode "command": its start command has ended well, in this boot */
    bool port_moved;     /* this activation has changed its port once */
    int64_t started_ms;
    int deaths;      /* since it last ran for SERVICE_STEADY_MS */
    char *port_text; /* for expansion */
    struct health *health;
    enum verdict verdict;
    char reason[REASON_MAX_BYTES + 1];

    /* staging */
    struct sources sources[SERVICE_SOURCES_MAX];
    int nsources;
    struct stage *stage;
    struct timer stage_retry;
    int stage_attempt;
    struct hash stage_failed; /* release of stage_err; zero: none */
    struct err stage_err;
    struct hash packs[STAGE_PACKS_MAX]; /* that the exchange may have for us; the full one first */
    size_t npacks;
    struct exchange_fetch reseed;
    bool reseeding;
    size_t reseed_at;
    int64_t packs_ms;               /* since when we have them */
    struct hash packs_freed;        /* release that nobody has wanted packs of for long */
    bool needs_space;               /* the disk was full: releases that are only spare go */
    struct stage_progress progress; /* of progress_release; zero: nothing to tell */
    struct hash progress_release, receipt_release; /* the latter: whose receipt was looked for */
    char progress_deployment[NAME_MAX_BYTES + 1];
    int64_t told_apply_ms;

    struct work prune;
    struct hash prune_keep[5];
    size_t prune_spare;
    bool pruning, prune_again;
    bool unsaved;  /* the journal in memory is ahead of the disk */
    bool counted;  /* the next start of this trial is in the journal already */
    bool idle;     /* a trial of before that must not go on, with nothing to go back to */
    bool stopping; /* service_stop() was called */
    int64_t grace_ms;
};

/* service.c */
const struct goal *service_goal(const struct service *s); /* NULL: none */
bool service_goal_is_live(const struct service *s, const struct goal *g);
/* The release that a live goal wants active here and that may be tried; NULL: none. */
const struct hash *service_wanted(const struct service *s);
bool service_artifact(const struct release *r, const char *variant, struct hash *ret);
int service_save(struct service *s);   /* the journal; logs a failure */
void service_retry(struct service *s); /* poke in SERVICE_RETRY_MS */
void service_prune(struct service *s);
void service_set_verdict(struct service *s, enum verdict verdict, const char *reason);

/* service_stage.c */
void service_stage_step(struct service *s, const struct goal *g); /* begins, goes on, or drops */
/* Kept for the next report; logged if it is another than before. */
void service_stage_failed(struct service *s, const struct hash *release, const struct err *err);
void service_note_progress(struct service *s);
void service_free_packs(struct service *s); /* if nobody has wanted any of them for long */

/* service_switch.c */
void switch_verify(struct service *s, const struct hash *release);
bool switch_is_verified(const struct service *s, const struct hash *release);
void switch_mark_verified(struct service *s, const struct hash *release);
void switch_begin(struct service *s);      /* to service_wanted(); the slot is ours */
void switch_off(struct service *s);        /* a goal says stop or absent */
void switch_back(struct service *s);       /* to journal.previous, without a goal */
int switch_load_active(struct service *s); /* s->active of journal.release */
void switch_recover(struct service *s);

/* service_run.c */
bool run_is_up(const struct service *s);
void run_start(struct service *s);
void run_stop(struct service *s, void (*after)(struct service *s));
void run_shut_down(struct service *s, int64_t grace_ms);
void run_watch_health(struct service *s);
void run_init(struct service *s);
bool run_adopt(struct service *s);
void run_forget(struct service *s); /* no process any more: drops the run file */

#endif
