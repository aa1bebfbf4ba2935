/* stage_internal.h - what the files of a stage share; not for its users.
 *
 *   stage.c        from the first step to the last, progress, life
 *   stage_look.c   what the packs are and need: indexes, heads, tables
 *   stage_fetch.c  plan, fetch, apply, and again
 *
 * Two things run at a time at most: the step, and, beside a fetch, a look at packs that have come since, or
 * the pool applying what of the pack has come.
 * Offers and assembly belong to the work pool while `work` is in it. */
#ifndef AGENT_STAGE_INTERNAL_H
#define AGENT_STAGE_INTERNAL_H

#include "assemble.h"
#include "stage.h"

enum stage_step {
    STEP_NONE = 0,
    STEP_LOOK,
    STEP_MANIFEST,
    STEP_PREPARE,
    STEP_PLAN, /* looks, then the plan in the pool */
    STEP_FETCH,
    STEP_APPLY,
    STEP_FINISH,
};

enum stage_look {
    LOOK_NONE = 0,
    LOOK_INDEX,
    LOOK_HEAD,     /* the leaves that the table lies in */
    LOOK_MANIFEST, /* of a delta's base that is no release here */
    LOOK_TABLE,    /* in the pool */
};

struct stage_pack {
    struct hash hash;
    struct offer *offer;             /* once the index is here */
    bool useless;                    /* in this attempt */
    bool withdrawn;                  /* by who offers it */
    bool late;                       /* it did not come in time: asked for beside the fetch */
    bool rechecked;                  /* its leaves on disk were hashed anew after it failed */
    bool opened;                     /* its files are in the exchange's hands */
    uint64_t seed_bytes, peer_bytes; /* of its leaves, when we last could ask */
};

struct stage {
    struct stage_options o; /* its texts and doc are our copies */
    char *dir, *packs_dir, *deployment;
    void (*done)(void *ctx, struct stage *s, int status, const struct err *err);
    void *ctx;
    enum stage_step step;
    struct work work;
    bool working; /* it is in the pool */
    bool dropped; /* free it when the pool is done with it */
    int status;   /* of the work */
    struct err err;
    struct buf manifest;
    struct exchange_object object;
    struct assembly *assembly;

    struct stage_pack packs[STAGE_PACKS_MAX]; /* the full one first */
    size_t npacks;
    enum stage_look look;
    size_t looking; /* which pack */
    size_t after;   /* late ones take turns: this was the last */
    struct exchange_fetch peek;
    struct timer limit;
    bool index_late; /* nothing is needed, and the full pack's index does not come */

    bool planned;
    struct plan plan;
    struct offer *offers[STAGE_PACKS_MAX]; /* as the pool sees them */
    struct bitmap here[STAGE_PACKS_MAX];
    size_t part; /* the pack that is being fetched or applied */
    struct exchange_fetch fetch;
    struct timer stall;
    uint64_t moved_bytes; /* by the fetch, when `stall` last looked */
    struct timer early;   /* what has come of it is applied meanwhile */
    struct bitmap ripe;   /* segments, in the pool's hands */
    bool early_ends;      /* something was wrong: STEP_APPLY will find it, too, and act */
    bool fetched;         /* and the pool is busy with a table, or early */
    bool fetch_failed;    /* likewise; why: */
    struct err fetch_err;
    char *path; /* of the pack in the pool's hands */
    size_t refused;

    uint64_t lost_seed_bytes, lost_peer_bytes; /* of packs that were deleted */
    uint64_t wanted_bytes;                     /* in all, by the last plan */
    uint64_t all_local;                        /* of the stream, if nothing was needed */
    struct receipt receipt;

    bool complete; /* every byte that is needed is here, verified */
    struct exchange_tally tally;
    int64_t asking_ms; /* since when it waits for bytes; 0: it does not */
    int64_t asked_ms;  /* so long it has waited before */
};

/* stage.c */
/* Steps that wait for bytes (MANIFEST, PLAN, FETCH) are the time that the attempt is measured by. */
void stage_enter(struct stage *s, enum stage_step step);
void stage_submit(struct stage *s, void (*run)(struct work *w), void (*done)(struct work *w));
/* To be called first by what stage_submit() has done: true: s is gone. */
bool stage_worked(struct stage *s);
void stage_fail(struct stage *s, const char *doing);
void stage_finish(struct stage *s); /* nothing is needed any more */
uint64_t stage_fetched_bytes(struct stage *s, uint64_t *ret_seed, uint64_t *ret_peer);
/* Deletes a pack that is of no use; what it has cost stays counted. */
void stage_forget_pack(struct stage *s, size_t k);

/* stage_look.c */
/* Begins the next look that is worth while; false: there is none. */
bool stage_look(struct stage *s);
void stage_stop_look(struct stage *s); /* not in the pool */
bool stage_is_exact(const struct stage *s, size_t k);

/* stage_fetch.c */
void stage_advance(struct stage *s); /* STEP_PLAN: looks, plans, fetches, or finishes */
/* While a fetch runs, that delta's table is known. True: the fetch was stopped for another plan. */
bool stage_consider(struct stage *s, size_t k);
/* The fetch that is under way is of a delta that nobody offers any more. */
void stage_leave_withdrawn(struct stage *s);
/* The fetch has ended, and nothing of s is in the pool: goes on, or fails. */
void stage_after_fetch(struct stage *s);
void stage_stop_fetch(struct stage *s);
uint64_t stage_remaining(const struct stage *s); /* bytes that the fetch still needs */

#endif
