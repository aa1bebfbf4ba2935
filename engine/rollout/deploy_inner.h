/* deploy_inner.h - what the files of the deployment state machine share; nobody else includes it.
 */
#ifndef ROLLOUT_DEPLOY_INNER_H
#define ROLLOUT_DEPLOY_INNER_H

#include "rollout/deploy.h"

struct step {
    struct deploy *d;
    const struct deploy_input *in;
    struct deploy_actions *out;
    enum deploy_question answered; /* cleared by whoever uses the answer */
};

/* deploy_act.c: what a step asks for. Texts are copied; json arguments are taken. */
void act_event(struct step *s, const char *kind, json_t *data, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void act_ask(struct step *s, const char *region, const char *kind, int64_t wave, json_t *ranks,
             json_t *request);
void act_relay(struct step *s, const char *region, const char *kind, json_t *body);
void act_wake(struct step *s, int64_t at_ms);
void act_goals(struct step *s); /* publishes what differs from what was published */
void act_plan(struct step *s, size_t plan_region);
void act_replicate(struct step *s);
void act_waiting(struct step *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Asks the policy unless it was asked exactly this (but for times) and its answer still stands. */
bool act_question(struct step *s, enum deploy_question q, json_t *input, const char *key);

/* deploy.c: changes of state. */
void enter(struct step *s, enum deploy_state state, const char *reason);
void finish(struct step *s, enum deploy_state state, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void hold(struct step *s, bool by_person, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* As the policy's on_failure says. */
void give_up(struct step *s, const char *cause);
void start_rollback(struct step *s, bool by_person, const char *cause);
void end_hold(struct step *s);
int64_t data_ms(const struct deploy *d, const char *key, int64_t def_s); /* of the policy's data */
void obey_command(struct step *s);                                       /* deploy_command.c */
/* Decodes the answer to q. False: it was an error, and the deployment is now held. */
bool take_decision(struct step *s, struct decision *ret);

/* deploy_gate.c, deploy_roll.c, deploy_back.c: each runs until nothing more can be done now. */
void step_replicating(struct step *s);
void step_rolling(struct step *s);
void step_rolling_back(struct step *s);
void tend_late(struct step *s); /* regions that were not there when the plan was made */

/* deploy_region.c */
void take_replies(struct step *s);
void sync_regions(struct step *s);
void ask_fleet(struct step *s, const struct deploy_region_input *r);
struct deploy_pending *find_pending(const struct deploy *d, const char *region, const char *kind,
                                    int64_t wave);
void drop_pending(struct deploy *d, size_t i);
const struct deploy_region_input *find_input(const struct deploy_input *in, const char *name);

/* deploy_delta.c */
void ask_deltas(struct step *s);  /* the release is signed */
void tend_deltas(struct step *s); /* tells regions of those that are ready, asks for the next */
bool deltas_hold(struct step *s); /* is one still worth waiting for? */
/* Appends the packs of an artifact that regions were told of beside the full one. */
void deltas_append(const struct deploy *d, const char *artifact, json_t *packs);

/* deploy_swarm.c */
void watch_swarm(struct step *s);

/* deploy_count.c */
bool counts_are_fresh(struct step *s, const char **ret_region);
void note_moved(struct step *s);
json_t *counts_json(const struct wave_counts *c);
json_t *info_json(const struct deploy *d);

#endif
