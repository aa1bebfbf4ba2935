/* plan.h - the frozen waves of a deployment: who moves when, as thresholds on the wave hash.
 *
 * The policy's waves say "4 machines", "50 %", each cumulative within its `where`. Here they
 * become, region by region, first a rank (the n-th smallest wave hash) and then the threshold of
 * that rank:
 *
 *     plan_from_waves(&p, answer, select, &err)      what the policy wants, checked
 *     plan_add_region(p, "eu", 4000)                 each region with its selected machines
 *     plan_set_matching(p, r, w, n)                  machines in wave w's `where`, per region
 *     plan_size(p, deadline_ms, &err)                targets, ranks, guardrails
 *     plan_ranks(p, r, w) -> ask the region for the hashes of those ranks
 *     plan_set_thresholds(p, r, w, answer, …)        until plan_is_frozen(p, r) of every region
 *
 * Invariants: within a `where`, a later wave's rank and threshold are never lower than an earlier
 * one's; the ranks of a wave sum to its target; each wave adds at least one machine while there is
 * one; a wave of 100 % takes every machine, also those that appear later.
 *
 * Guardrails that no policy can lift: the size of the first wave, machines restarting at once, and
 * the sum of the bakes against the deadline. */
#ifndef ROLLOUT_PLAN_H
#define ROLLOUT_PLAN_H

#include "base/buf.h"
#include "wire/json.h"

enum {
    PLAN_WAVES_MAX = 128,
    PLAN_REGIONS_MAX = 64,
    PLAN_FIRST_WAVE_FREE = 4,     /* machines that a first wave may take of any fleet */
    PLAN_FIRST_WAVE_PERCENT = 10, /* … and of a larger one */
    PLAN_MOVING_PERCENT = 50,     /* of a region's machines, restarting at once */
};

struct plan_wave {
    char *name;
    char *where;       /* compact JSON predicate; "{}" is everybody */
    size_t group;      /* the first wave with the same where */
    double percent;    /* cumulative; 0 if count is meant */
    uint64_t count;    /* cumulative */
    uint64_t target;   /* machines of where that this wave and earlier ones of its group take */
    uint64_t matching; /* machines of where when the plan was made */
    int64_t bake_ms;
    uint64_t max_failed;
    double moving_percent; /* 0 if moving_count is meant */
    uint64_t moving_count;
};

struct plan_region {
    char *name;
    uint64_t total;       /* selected machines when the plan was made */
    uint64_t *matching;   /* per wave */
    bool *known;          /* per wave: matching was told */
    uint64_t *ranks;      /* per wave, cumulative within the group */
    uint64_t *thresholds; /* per wave; 0: nobody here */
    bool *frozen;         /* per wave: the threshold is final */
};

struct plan {
    char *select; /* compact JSON predicate */
    struct plan_wave *waves;
    size_t nwaves;
    struct plan_region *regions;
    size_t nregions;
    bool sized;
};

/* waves: the policy's answer (engine/policy/policy.h POLICY_WAVES). -ERR_POLICY says which wave and
 * field is wrong, and which two waves take nothing from each other. Gives *ret. */
MUST_CHECK int plan_from_waves(struct plan **ret, const json_t *waves, const char *select,
                               struct err *err);
void plan_free(struct plan *p); /* NULL is fine */

/* Gives the region's index. A region that comes after plan_size() is late: its ranks are its share
 * of the targets that were frozen, and plan_size_late() computes them. */
size_t plan_add_region(struct plan *p, const char *name, uint64_t total);
size_t plan_find_region(const struct plan *p, const char *name); /* nregions: none */

/* select and wave w's where, as one predicate. */
void plan_where(const struct plan *p, size_t w, struct buf *out);
bool plan_where_is_select(const struct plan *p, size_t w);

void plan_set_matching(struct plan *p, size_t region, size_t w, uint64_t matching);
bool plan_is_matched(const struct plan *p, size_t region);

/* -ERR_POLICY: a guardrail refuses the plan; the text says which and by how much. */
MUST_CHECK int plan_size(struct plan *p, int64_t deadline_ms, struct err *err);
void plan_size_late(struct plan *p, size_t region);

/* The distinct ranks of wave w's group whose threshold is not yet known, ascending, as a JSON array
 * (empty: nothing to ask). Gives. */
json_t *plan_ranks(const struct plan *p, size_t region, size_t w);
/* The answer to those ranks, in their order. */
void plan_set_thresholds(struct plan *p, size_t region, size_t w, const json_t *ranks,
                         const uint64_t *thresholds, size_t n);
bool plan_is_frozen(const struct plan *p, size_t region);

/* Does the wave take anybody that earlier waves of its group did not, as far as was known? */
bool plan_wave_adds(const struct plan *p, size_t w);

/* Machines that may restart at once in this region during wave w: at least 1, at most
 * PLAN_MOVING_PERCENT of the region's. */
uint64_t plan_max_moving(const struct plan *p, size_t region, size_t w);
uint64_t plan_max_moving_back(const struct plan *p, size_t region); /* of a rollback */

uint64_t plan_first_wave_limit(uint64_t fleet);

/* [{"where","threshold":HEX16}…] of waves 0..upto-1 in that region, and with "wave" for a count. */
json_t *plan_goal_rules(const struct plan *p, size_t region, size_t upto);
json_t *plan_count_rules(const struct plan *p, size_t region);

json_t *plan_to_json(const struct plan *p);
MUST_CHECK int plan_from_json(struct plan **ret, const json_t *json, struct err *err);

/* 64-bit numbers travel in JSON as 16 hexadecimal digits. */
void threshold_text(char out[17], uint64_t threshold);
bool threshold_parse(uint64_t *ret, const char *text);

#endif
