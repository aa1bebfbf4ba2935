/* offenders.h - what others did to this process that they should not have, for its operator. */
#ifndef STORE_OFFENDERS_H
#define STORE_OFFENDERS_H

#include "store/exchange.h"

struct offenders {
    uint64_t bad_leaves; /* leaves and lists that were not what they should have been */
    uint64_t malformed;  /* links that ended by a malformed message */
    uint64_t banned;     /* machines, for either; until this process ends */
    uint64_t refused;    /* connections: strangers, banned ones, too many */
};

struct offenders offenders_of(const struct exchange *x, const struct link_identity *self,
                              uint64_t refused);
bool offenders_any(const struct offenders *o);
/* "2 machines banned, 4 bad leaves, 0 malformed messages, 7 connections refused" */
void offenders_text(struct buf *out, const struct offenders *o);
/* "banned":2,"bad_leaves":4,"malformed":0,"refused":7 */
void offenders_json(struct buf *out, const struct offenders *o);

#endif
