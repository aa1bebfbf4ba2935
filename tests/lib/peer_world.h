/* peer_world.h - one struct peer under test: the test plays the others at the ends of its links.
 *
 *     world_open(&w, is_node, leaves, have);
 *     link = world_add_link(&w, 0, 50);             a link whose other side has the leaves 0 to 49
 *     world_say(&w, PEER_ON_WANT, link, leaf);      something happens; what it did is in w.seen
 *     world_close(&w); */
#ifndef LIB_PEER_WORLD_H
#define LIB_PEER_WORLD_H

#include "swarm/peer.h"

enum { LEAVES = 100, LINKS = 8, SEEN_MAX = 4096 };

/* What it did in answer to the last calls. */
struct seen {
    struct peer_action a;
    uint32_t leaves[256]; /* of a HAVE */
};

struct world {
    struct peer *p;
    int pack, link[LINKS];
    int64_t now_ms;
    struct seen seen[SEEN_MAX];
    size_t nseen;
};

void world_take(struct world *w);
/* How many actions of that kind for that link (-1: any). */
size_t world_count(const struct world *w, enum peer_action_kind kind, int link);
const struct seen *world_first(const struct world *w, enum peer_action_kind kind, int link);
void world_step(struct world *w, struct peer_event e);
/* A pack of that many leaves; the machine has those below `have`. */
void world_open(struct world *w, bool is_node, size_t leaves, size_t have);
void world_close(struct world *w);
/* The other side has the leaves from..to-1. */
void world_bitmap(struct world *w, int link, size_t from, size_t to);
int world_add_link(struct world *w, size_t from, size_t to);
void world_say(struct world *w, enum peer_event_kind kind, int link, uint32_t leaf);
/* The leaf arrives and is verified; what was done meanwhile is in seen, VERIFIED's last. */
void world_bring(struct world *w, int link, uint32_t leaf);
/* Runs ticks until then. */
void world_pass(struct world *w, int64_t until_ms);

#endif
