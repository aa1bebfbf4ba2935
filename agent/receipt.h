/* receipt.h - what it took to bring a release onto this disk: releases/RELEASE/receipt.json.
 *
 * Written beside the tree before RELEASE gets its name, so that a release that is there whole has its
 * receipt, and an agent that is started later tells the same figures under the same deployment: they
 * are told as they are, not added up, so that telling them again counts nothing twice. Receipts of before
 * the way they came was measured have no `fetched`. */
#ifndef AGENT_RECEIPT_H
#define AGENT_RECEIPT_H

#include "base/err.h"
#include "fetched.h"

struct receipt {
    char deployment[NAME_MAX_BYTES + 1];
    uint64_t wanted_bytes;           /* of packs; all of them came */
    uint64_t seed_bytes, peer_bytes; /* of these: from region nodes, from machines */
    uint64_t saved_bytes;            /* that the full pack has more */
    bool measured;                   /* how they came is known: */
    struct fetched fetched;
};

enum { RECEIPT_FILE_MAX = 4096 };

MUST_CHECK int receipt_save(const struct receipt *r, const char *dir, struct err *err);
/* dir: RELEASE. -ERR_NOT_FOUND; -ERR_CORRUPT: not a receipt. */
MUST_CHECK int receipt_load(struct receipt *r, const char *dir, struct err *err);

#endif
