/* mailbox.h - between the links' memory and the database: what regions said goes in, what is new
 * for them comes out.
 *
 *     mailbox_init(&box);     on the loop: fill in said, listeners, relay_seen, anew
 *     mailbox_run(&box, db);  one round, in the work pool (it blocks)
 *     … result, told          on the loop again; what is left in said was not written
 *     mailbox_release(&box); */
#ifndef CONTROL_MAILBOX_H
#define CONTROL_MAILBOX_H

#include "base/list.h"
#include "db/db.h"
#include "wire/json.h"
#include "wire/msg.h"

#define MAILBOX_NUMBER_MAX (INT64_C(1) << 50)

enum said_kind { SAID_NONE = 0, SAID_REGION, SAID_REPLICA, SAID_COUNTS, SAID_RUNS, SAID_ANSWER };

/* Something that a region said, or that became of it. */
struct said {
    struct list node;
    enum said_kind kind;
    char *region;
    char *key;  /* replica: artifact; counts: deployment; runs: service; answer: deployment */
    char *ask;  /* answer: key of the question */
    char *body; /* counts, runs, answer: JSON; replica: reason */
    int64_t
        n[5]; /* region: connected, session, machines, reachable; replica: bytes, total, origin */
    const char *state; /* replica; static */
    int64_t at_ms;
};

/* Something to be told to a region. */
struct telling {
    struct list node;
    char *region;
    enum msg_type type;
    void *msg;                                 /* decoded; freed with codec_free() */
    int64_t seq;                               /* of its row; 0: a question */
    char *ask_deployment, *ask_key, *ask_kind; /* of a question */
};

/* A region that is connected. */
struct listener {
    char *region;
    int64_t seq;        /* told up to here */
    int64_t session_ms; /* which link of it */
};

struct mailbox {
    const char *holder;
    struct list said; /* struct said; emptied */
    struct listener *listeners;
    size_t nlisteners;
    int64_t relay_seen; /* counter 'relay' at the last round */
    bool anew;          /* a listener is behind: look even if the counter stands */
    struct list told;   /* struct telling, by region in order */
    bool wrote;
    int result;
    struct err err;
};

void mailbox_init(struct mailbox *b);
void mailbox_release(struct mailbox *b);
void mailbox_run(struct mailbox *b, struct db *d);

struct said *said_new(enum said_kind kind, const char *region, const char *key, int64_t at_ms);
void said_free(struct said *s);
void telling_free(struct telling *t);

/* JSON of rows to messages; each gives *ret. -ERR_INVALID: the row is malformed. */
MUST_CHECK int msg_from_replicate(struct msg_replicate **ret, const json_t *body, struct err *err);
MUST_CHECK int msg_from_plan(struct msg_plan **ret, const json_t *body, struct err *err);
MUST_CHECK int msg_from_fleet_ask(struct msg_fleet_ask **ret, const json_t *request,
                                  struct err *err);
MUST_CHECK int msg_from_quantile_ask(struct msg_quantile_ask **ret, const json_t *request,
                                     struct err *err);
/* And answers to JSON; each gives. */
/* A count or a number of bytes that a region tells, at most MAILBOX_NUMBER_MAX. */
int64_t mailbox_number(uint64_t n);
json_t *fleet_to_json(const struct msg_fleet *m);
json_t *quantile_to_json(const struct msg_quantile *m);
json_t *counts_to_json(const struct msg_counts *m);
json_t *runs_to_json(const struct msg_runs *m); /* [[release, machines]…] */

#endif
