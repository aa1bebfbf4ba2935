/* deploy.h - the life of one deployment, as a pure state machine.
 *
 *     queued -> building -> replicating -> rolling -> succeeded
 *                  |             |           |  ^ resume, promote
 *                  |             |           v  |
 *                  |             +--------> held      (deadline stands still; hold_for, then back)
 *                  |             |           |
 *                  v             v           v
 *               failed        failed     rolling_back -> rolled_back, or failed (first deployment)
 *     abort from any of them -> aborted; a newer one -> superseded while queued
 *
 * deploy_step() looks at the world as the caller found it and answers with what is to be done. It
 * has no clock and keeps nothing but struct deploy, which deploy_to_json() saves whole:
 *
 *     d = deploy_from_json(row)
 *     do { deploy_step(d, &in, &out); answer out.question, out.sign } while (something was asked)
 *     one transaction: row := deploy_to_json(d); events, asks, goals, relays of `out`
 *
 * A step that is lost (kill -9 before the commit) is taken again from the row and the same inputs;
 * effects outside the database (a signature, a policy call) may be repeated freely.
 *
 * What can go wrong, and what then: a build fails -> failed. The policy errs -> held with its
 * traceback, never go. A region is away -> its machines count as unreachable after
 * DEPLOY_REGION_LOST_MS, until then nothing is judged. Counts that answer an older goal are not
 * judged. A delta is late, or comes to nothing -> the full packs are moved. An empty wave -> held. The
 * deadline passes -> as the policy's on_failure says, or failed if nothing moved. A rollback that does not finish -> held, then failed. */
#ifndef ROLLOUT_DEPLOY_H
#define ROLLOUT_DEPLOY_H

#include "rollout/decision.h"
#include "rollout/plan.h"

enum {
    /* When the figures of a region's swarm (swarm/figures.h) are told of by an event, once: */
    DEPLOY_SWARM_JUDGED = 10,      /* machines that have a ratio, for */
    DEPLOY_SWARM_SLOW = 1500,      /* p99 above that, thousandths; and FIGURES_LATE_MS at least */
    DEPLOY_SWARM_CROWD = 16,       /* machines, for */
    DEPLOY_SWARM_COPIES = 4,       /* more copies of a pack sent by the region node than that */
    DEPLOY_SWARM_EDGES = 100,      /* peers named, for */
    DEPLOY_SWARM_STALE = 20,       /* percent of them that were of no use */
    DEPLOY_SETTLE_MS = 15000,      /* how long counts may take to settle after a restart */
    DEPLOY_REGION_LOST_MS = 30000, /* an absent region's machines then count as unreachable */
    DEPLOY_SILENT_MS = 45000,      /* a wave without a reachable machine is held after so long */
    DEPLOY_FLEET_MS = 2000,        /* the fleet is asked again while the gate waits */
    DEPLOY_PLAN_ASK_MS = 10000,    /* a region that does not answer is left out of the plan */
    DEPLOY_BACK_MS = 3000,         /* for machines that never moved to say so, at the end */
    DEPLOY_GOAL_DAYS = 30,         /* until a goal expires */
    DEPLOY_ARTIFACTS_MAX = 64,
    DEPLOY_FAILURES_SHOWN = 20,
    DEPLOY_DELTA_MIN_BYTES = 4 << 20, /* of a full pack: below, no delta is made */
    DEPLOY_DELTA_WAIT_MS = 120000,    /* a goal waits for a delta at most so long, */
    DEPLOY_DELTA_WAIT_RATE =
        4 << 20,                 /* and no longer than the full pack takes at so much a second */
    DEPLOY_DELTA_MORE = 4,       /* bases of an artifact beside the first, one after the other */
    DEPLOY_DELTA_LOST_MS = 1000, /* a delta that was asked for is known by then, or was forgotten */
};

enum deploy_state {
    DEPLOY_NONE = 0,
    DEPLOY_QUEUED,
    DEPLOY_BUILDING,
    DEPLOY_REPLICATING,
    DEPLOY_ROLLING,
    DEPLOY_HELD,
    DEPLOY_ROLLING_BACK,
    DEPLOY_SUCCEEDED,
    DEPLOY_ROLLED_BACK,
    DEPLOY_FAILED,
    DEPLOY_ABORTED,
    DEPLOY_SUPERSEDED,
};
const char *deploy_state_name(enum deploy_state s);
bool deploy_state_parse(enum deploy_state *ret, const char *name);
bool deploy_state_is_final(enum deploy_state s);

enum deploy_verb {
    DEPLOY_VERB_NONE = 0,
    DEPLOY_ABORT,
    DEPLOY_PAUSE,
    DEPLOY_RESUME,
    DEPLOY_PROMOTE,   /* the gate or the wave is passed, whatever the policy says */
    DEPLOY_ROLLBACK,  /* back to rollback_to now */
    DEPLOY_SKIP_BAKE, /* the open wave has baked */
};
const char *deploy_verb_name(enum deploy_verb v);
bool deploy_verb_parse(enum deploy_verb *ret, const char *name);

/* Steps inside of replicating. */
enum deploy_phase {
    PLANNING_NONE = 0, /* waiting for the replication gate */
    PLANNING_WAVES,    /* gate passed: the policy is asked for its waves */
    PLANNING_MATCHING, /* regions are asked how many machines each `where` has */
    PLANNING_RANKS,    /* regions are asked for the hashes of the ranks */
};

/* A question to a region node that is out. */
struct deploy_pending {
    char *key, *region;
    char *kind; /* "fleet", "matching", "ranks" */
    int64_t wave;
    json_t *ranks;
    int64_t at_ms;
};

/* What the region nodes were told and have answered; index is not the plan's. */
struct deploy_region {
    char *name;
    bool fleet_known;
    uint64_t fleet_total, fleet_reachable;
    json_t *variants; /* {name: machines} */
    int64_t fleet_at_ms;
    bool verified;      /* latched: it holds what its machines need */
    bool late;          /* it was not verified, or not planned, when rolling began */
    bool told;          /* its node has the plan to count by */
    int64_t generation; /* of the goal that was published last; 0: none */
    char *goal;         /* that goal's content without generation and times */
    int64_t moved;      /* the most machines that were seen moved; what a rollback brings back */
};

struct deploy {
    /* fixed by the trigger */
    char *id, *cluster, *service, *commit, *ref, *actor, *why, *recipe;
    json_t *params, *data; /* data: policy_data() */
    bool no_input;
    int64_t created_ms;

    /* where it stands */
    enum deploy_state state;
    char *reason, *waiting_for;
    enum deploy_phase phase;
    bool gate_passed, nothing_to_do, build_failed;
    int64_t front_ms;                     /* since when nothing is ahead; 0: not yet */
    int64_t blocked_ms, blocked_since_ms; /* waiting behind another deployment */
    int64_t built_ms, gated_ms, planned_ms, staged_ms, finished_ms, phase_ms;
    int64_t deadline_extra_ms;

    /* a hold */
    enum deploy_state held_from;
    int64_t held_ms, held_since_ms;
    bool held_by_person, hold_expired;

    /* what is deployed */
    json_t *artifacts;                      /* of the job's result */
    char *release, *rollback_to, *previous; /* 64 digits or ""; the commit of rollback_to */
    /* In the order in which they were asked for, each {"artifact","base","machines" (that ran it),
     * "at","state"} and, once "ready" or "none", {"pack","bytes","reason","packed":[{"path","bytes"}…],
     * "npacked","packed_bytes"}. */
    json_t *deltas;
    int64_t delta_until_ms; /* the goal waits until then for a first delta; 0: none was asked for */
    int64_t origin_before; /* bytes of the artifacts that regions had read from the origin before */

    /* how far */
    struct plan *plan;
    struct deploy_region *regions;
    size_t nregions;
    int64_t wave; /* 0-based: the one that is opening or open */
    bool wave_open, skip_bake, promoted;
    int64_t wave_ms, healthy_ms, progress_ms, silent_ms;
    char *progress; /* the counts that progress_ms is about */
    json_t *memo;
    struct deploy_pending *pending;
    size_t npending;
    int64_t ask_count;

    /* a rollback */
    int64_t rollback_ms;
    int64_t back_ms; /* since when all moved machines are back */
    bool rollback_by_person;
    char *cause;      /* why it goes back */
    json_t *failures; /* of machines, as they stood when it gave up */
    int64_t bad;      /* how many were bad then */

    json_t *told; /* what was said of its swarm: each once */

    /* not saved: what the policy was last asked, so that it is not asked the same twice */
    char *asked;
    int64_t ask_again_ms;
};

struct wave_counts {
    uint64_t total, reachable, staged, activated, healthy, bad, unknown, rolled_back, previous;
};

struct deploy_replica {
    const char *artifact; /* 64 digits */
    const char *state;    /* "waiting", "fetching", "verified", "failed" */
    const char *reason;
    int64_t bytes, total, origin_bytes;
};

/* A delta pack of one of the artifacts. */
struct deploy_delta {
    const char *artifact, *base, *pack; /* 64 digits; pack "" unless it is ready */
    const char *state;                  /* "making", "ready", "none" */
    const char *reason;                 /* why there is none; "" */
    int64_t bytes;
    const json_t *packed; /* changed files that are compressed: {"packed":[{"path","bytes"}…],
                             "npacked","packed_bytes"}, or NULL */
};

/* An artifact that a delta could be made from. */
struct deploy_base {
    const char *variant, *artifact;
    int64_t machines; /* that run it; 0: none, or nobody knows yet */
};

/* Asks for the delta of an artifact from a base. */
struct deploy_want {
    char *artifact, *base;
    bool late; /* not the first of its artifact: others go first */
};

/* A region as the database knows it now. Everything is borrowed for the step. */
struct deploy_region_input {
    const char *name;
    bool connected;
    int64_t seen_ms; /* when it was last connected */
    int64_t machines, reachable;
    struct deploy_replica *replicas; /* of the deployment's artifacts, or of its job's result */
    size_t nreplicas;
    bool counted; /* counts were told since it connected (or before it went) */
    int64_t counts_generation;
    struct wave_counts *waves; /* one more than the plan has: the last is "in none" */
    size_t nwaves;
    int64_t staged_bytes, wanted_bytes, seed_bytes, peer_bytes, saved_bytes, drift;
    const json_t *failures; /* [{"machine","phase","reason"}…] or NULL */
    const json_t *swarm;    /* rollout/swarm_json.h, a row, or NULL */
};

struct deploy_reply {
    const char *key;
    const json_t *value; /* fleet: {"total","reachable","variants":{}}; quantile: {"matching",
                            "thresholds":[HEX16…]} */
};

enum deploy_question { ASK_NONE = 0, ASK_REPLICATE, ASK_WAVES, ASK_ADVANCE };
const char *deploy_question_name(enum deploy_question q);

struct deploy_input {
    int64_t now_ms;
    int64_t watching_ms; /* since when somebody has looked without a break: who could not be seen
                            before was not away for that. 0: always */
    const struct deploy_region_input *regions;
    size_t nregions;

    const char *job_status; /* "queued" … "cancelled"; NULL: not known */
    int64_t job_id;
    const char *job_reason;
    const json_t *job_result;

    const char *ahead; /* the live deployment of the service before this one, or NULL */
    const char *newer; /* one triggered after this, or NULL */
    /* The service's last planned deployment, if it succeeded with this commit and recipe. */
    bool same_as_last;
    uint64_t last_total, last_healthy;
    bool last_settled; /* all regions are connected and have counted since */
    const char *last_release;

    bool renew;               /* publish the goals anew: they would expire */
    int64_t generation_floor; /* no goal of the service has a higher generation */

    /* answers to the step before */
    enum deploy_question answered;
    const json_t *answer;               /* NULL: answer_error tells why */
    const char *answer_error;           /* "web.lua:12: …" */
    const char *signed_release;         /* 64 digits */
    const char *rollback_to, *previous; /* known with it; "" */
    const char *sign_error;             /* the packs are not what the worker said */
    const struct deploy_reply *replies;
    size_t nreplies;

    const struct deploy_delta *deltas;
    size_t ndeltas;
    /* Most machines first, and of as many the newest; the last good release's are always there, last.
     * Looked at only while deploy_wants_bases(). */
    const struct deploy_base *bases;
    size_t nbases;

    enum deploy_verb command;
    const char *command_actor, *command_reason;
};

struct deploy_event {
    char *kind, *text;
    json_t *data;
};

struct deploy_ask {
    char *key, *region, *kind; /* kind: "fleet" {"select","variant"} or "quantile" {"deployment",
                                  "where","ranks"} */
    json_t *request;
};

struct deploy_goal {
    char *region;
    int64_t generation;
    char *release, *rollback_to;
    json_t *body; /* of the goal document, wire/doc.h */
};

struct deploy_relay {
    char *region; /* "*": every region, also those that come later */
    char *kind; /* "replicate" {"deployment","artifacts":[{"variant","artifact","packs":[…]}…]}
                   "plan" {"deployment","service","select","variant","release","rollback_to",
                   "waves","rules":[{"wave","where","threshold"}…]} */
    json_t *body;
};

struct deploy_actions {
    struct deploy_event *events;
    size_t nevents;
    struct deploy_ask *asks;
    size_t nasks;
    struct deploy_goal *goals;
    size_t ngoals;
    struct deploy_relay *relays;
    size_t nrelays;
    enum deploy_question question; /* ask the policy this now, and step again */
    json_t *question_input;
    struct deploy_want *wants;
    size_t nwants;
    bool sign;        /* verify d->artifacts, sign the release, and step again */
    bool drop_deltas; /* nobody waits any more for those that are still being made */
    bool cancel_job;
    bool planned;    /* rolling begins: this is now the service's last planned deployment */
    bool finished;   /* it has reached a terminal state in this step */
    int64_t wake_ms; /* step again at this time at the latest; 0: only on change */
    char *refused;   /* why the command could not be obeyed, or NULL */
};

/* All texts are copied; params and data are NULL until the caller sets them (takes). Gives. */
struct deploy *deploy_new(const char *id, const char *cluster, const char *service,
                          const char *commit, int64_t created_ms);
void deploy_set_text(char **field, const char *value); /* replaces; NULL is "" */
void deploy_free(struct deploy *d);

json_t *deploy_to_json(const struct deploy *d);
MUST_CHECK int deploy_from_json(struct deploy **ret, const json_t *json, struct err *err);

/* out is filled from zero; deploy_actions_release() afterwards. Never fails: whatever is wrong
 * becomes a state with a reason. */
void deploy_step(struct deploy *d, const struct deploy_input *in, struct deploy_actions *out);
void deploy_actions_release(struct deploy_actions *out);

/* Could the verb be obeyed in this state? If not, *ret_why says why (static). */
bool deploy_allows(const struct deploy *d, enum deploy_verb verb, const char **ret_why);

/* Could the next step ask for a delta? */
bool deploy_wants_bases(const struct deploy *d);

/* DESIGN §5: 0, 4, 5, 6, 7, 11; -1 while it lives. */
int deploy_exit_code(const struct deploy *d);

/* A time that others are given begins now if nobody looked while it ran. */
int64_t deploy_since(const struct deploy_input *in, int64_t since_ms);

/* Time that counts against the deadline: not held, not behind another deployment. */
int64_t deploy_elapsed_ms(const struct deploy *d, int64_t now_ms);
int64_t deploy_deadline_ms(const struct deploy *d);

/* The open wave's counts over all regions; a region that is away contributes its total only. */
struct wave_counts deploy_wave_counts(const struct deploy *d, const struct deploy_input *in,
                                      size_t wave);
struct wave_counts deploy_fleet_counts(const struct deploy *d, const struct deploy_input *in);
int64_t deploy_bake_ms(const struct deploy *d, int64_t now_ms); /* baked so far, of the open wave */

bool deploy_region_verified(const struct deploy *d, const struct deploy_region_input *r);
struct deploy_region *deploy_find_region(const struct deploy *d, const char *name);

#endif
