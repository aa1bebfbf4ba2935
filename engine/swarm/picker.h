/* picker.h - which piece of a pack to ask which peer for: the downloading side's decisions, pure.
 *
 * A piece is `piece_leaves` consecutive leaves (2^k, the last piece may be shorter). The picker
 * knows what we have, what each peer has, and what is asked of whom; time and randomness are
 * arguments.
 *
 *   - rarest first: among the pieces that the peer has and we lack, the one that fewest of our peers
 *     have; ties at random, so that machines that start together fetch different pieces and trade;
 *   - a piece is asked of one peer at a time, until it is overdue (3 times the usual time for a piece,
 *     and at least STEAL_MIN_MS): then one more peer may be asked, and whoever is first wins; up to
 *     PICKER_ASKED_MAX at a time, each only when all before it are overdue;
 *   - a peer that is asked and brings nothing for PICKER_SILENT_MS loses what it was asked for, and is
 *     asked nothing for as long again: it may be stuck, or want us to wait for ever.
 *
 * Sources: rarest first, Legout et al., "Rarest First and Choke Algorithms Are Enough", IMC 2006;
 * stealing instead of fixed timeouts: research on the tails of image distribution systems. */
#ifndef SWARM_PICKER_H
#define SWARM_PICKER_H

#include "base/bitmap.h"

enum {
    PICKER_PEERS_MAX = 128,
    STEAL_MIN_MS = 1500,
    PIECE_LEAVES_MAX = 64,
    PICKER_ASKED_MAX = 4,     /* peers asked for one piece */
    PICKER_SILENT_MS = 30000, /* of a peer that is asked */
    PIECES_AIM = 1024,        /* piece size is the pack's size over this, as a power of two */
};

struct picker;

/* Leaves a piece for a pack of that many leaves: 1, 2, 4 … PIECE_LEAVES_MAX. */
size_t picker_piece_leaves(size_t nleaves);

struct picker *picker_new(size_t nleaves, uint64_t seed);
void picker_free(struct picker *p);

const struct bitmap *picker_have(const struct picker *p); /* leaves */
/* From now on only these leaves are chosen (one bit a leaf, copied); NULL: all, as in the beginning.
 * What is asked already may still come. */
void picker_want(struct picker *p, const struct bitmap *leaves);
bool picker_wants(const struct picker *p, size_t leaf); /* whether we have it or not */
bool picker_done(const struct picker *p);               /* all that is wanted is here */

/* Returns the peer's number (>= 0), or -1 when PICKER_PEERS_MAX are known. */
int picker_peer_add(struct picker *p);
/* Forgets it; what was asked of it is free again. */
void picker_peer_remove(struct picker *p, int peer);
/* The peer's whole bitmap; false if it is malformed for this pack. */
bool picker_peer_bitmap(struct picker *p, int peer, const void *bytes, size_t len);
bool picker_peer_have(struct picker *p, int peer, size_t leaf); /* false: no such leaf */
/* It cannot give that leaf after all. */
void picker_peer_lacks(struct picker *p, int peer, size_t leaf);
const struct bitmap *picker_peer_has(const struct picker *p, int peer); /* leaves */

/* Chooses the next range to ask that peer for and marks it asked; false if there is none now. */
bool picker_choose(struct picker *p, int peer, int64_t now_ms, size_t *ret_first,
                   size_t *ret_count);

/* A leaf is here, verified. `peer` brought it (-1: it was on disk). False if we had it already. */
bool picker_got(struct picker *p, int peer, size_t leaf, int64_t now_ms);

/* The peer refused, or what it sent was bad: the range is free again. */
void picker_refused(struct picker *p, int peer, size_t first, size_t count);

/* Takes back what silent peers were asked for. Call it now and then. */
void picker_expire(struct picker *p, int64_t now_ms);

size_t picker_asked(const struct picker *p, int peer); /* pieces open with that peer */

#endif
