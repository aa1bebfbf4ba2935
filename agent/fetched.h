/* fetched.h - how well the bytes of a release came (struct msg_fetch), kept and told.
 *
 *     fetched_set(&f, &tally)          what the exchange has counted
 *     fetched_rate(&f, &rates)         by what it is measured
 *     fetched_to_json(), _from_json()  in a receipt
 *     fetched_tell(&f, &room, &m)      in a PROGRESS */
#ifndef AGENT_FETCHED_H
#define AGENT_FETCHED_H

#include "store/exchange.h"
#include "wire/json.h"

struct fetched {
    struct msg_fetch m; /* its list is empty: names are here */
    char banned[BANNED_MAX][NAME_MAX_BYTES + 1];
    size_t nbanned;
};

/* What is known of the machine's way to the others; bytes a second, 0: not known. */
struct fetched_rates {
    uint64_t limit, link, observed;
};

enum { FETCHED_RATE_MIN = 1000 /* less is no rate */ };

/* Parses "500K", "10M", "1.5G" (powers of 1024) bytes a second; -1: it is not that. */
int rate_parse(const char *text, uint64_t *ret);

/* Sets what the tally has: bytes, racks, leaves, names. */
void fetched_set(struct fetched *f, const struct exchange_tally *t);
/* One more that was banned, unless it is among them. */
void fetched_banned(struct fetched *f, const char *machine);
/* The limit, else the link's speed, else the most that was observed (the average of f at least). */
void fetched_rate(struct fetched *f, const struct fetched_rates *r);

json_t *fetched_to_json(const struct fetched *f);
/* -ERR_INVALID: not what fetched_to_json() makes. */
MUST_CHECK int fetched_from_json(struct fetched *f, const json_t *json, struct err *err);

/* Where the lists of a PROGRESS lie until it is sent. */
struct fetched_room {
    struct msg_fetch fetch;
    struct msg_banned banned[BANNED_MAX];
};
void fetched_tell(const struct fetched *f, struct fetched_room *room, struct msg_progress *m);

#endif
