/* seeding.h - which piece a seed shows to whom, so that it hands out no piece twice while another one
 * has not been handed out at all.
 *
 * A seed that shows all it has is asked for the same pieces by many at once, and its uplink, the
 * scarce thing at the start, carries duplicates. So it shows a piece at a time: to the least complete
 * peer the piece that the fewest have or were shown. Peers pass it on to each other. Few pieces are out
 * at a time; one that is not taken within SEEDING_TAKE_MS may be shown to somebody else.
 *
 *     seeding_peer_add(s, id), seeding_has(s, peer, leaf)    what we hear
 *     while (seeding_show(s, now, &peer, &first, &count))    say HAVE to that one
 *     seeding_given(s, peer, leaf)                           the leaf was sent
 *
 * Pure: time and randomness are arguments. Cost of a step: O(peers + pieces).
 * Source: super seeding, BEP 16; the tail that duplicates cost: own simulation (1.47 to 1.17 x). */
#ifndef SWARM_SEEDING_H
#define SWARM_SEEDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SEEDING_PEERS_MAX = 128,
    SEEDING_OUT =
        3, /* pieces that one peer was shown and has not been given; more if few peers share */
    SEEDING_OUT_ALL = 8,   /* and all together, at first; doubled when that is too few */
    SEEDING_OUT_MAX = 256, /* but not further than to this */
    SEEDING_TAKE_MS = 3000,
};

struct seeding;

struct seeding *seeding_new(size_t nleaves, size_t piece_leaves, uint64_t seed);
void seeding_free(struct seeding *s);

int seeding_peer_add(struct seeding *s); /* -1: SEEDING_PEERS_MAX are known */
void seeding_peer_remove(struct seeding *s, int peer);
void seeding_has(struct seeding *s, int peer, size_t leaf);

/* Chooses what to show next and takes it as shown; false: nothing now. */
bool seeding_show(struct seeding *s, int64_t now_ms, int *ret_peer, size_t *ret_first,
                  size_t *ret_count);
void seeding_given(struct seeding *s, int peer, size_t leaf);

/* The uplink idles although pieces are out: more may be. */
void seeding_starves(struct seeding *s);

#endif
