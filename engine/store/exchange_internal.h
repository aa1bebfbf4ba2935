/* exchange_internal.h - what the files of exchange share; not for its users.
 *
 *   exchange.c         links, dispatch, bans, the tick
 *   exchange_object.c  objects: offered, asked for, fetched
 *   exchange_pack.c    packs: who has what, leaves asked for, verified and written
 *   exchange_arrive.c  a leaf that arrives: verified and written
 *   exchange_fetch.c   a fetch: index, files of an earlier run, start
 *   exchange_show.c    a region node: which piece is shown to whom
 *   exchange_give.c    leaves read and sent to those who want them
 *
 * A link learns what we have of a pack by BITMAP: sent to every link when a pack is taken up, and once in
 * answer to the first BITMAP that comes from it; HAVE tells the rest. An empty BITMAP ends that when the
 * pack is forgotten: both sides then know as much of it as when the link was opened. */
#ifndef STORE_EXCHANGE_INTERNAL_H
#define STORE_EXCHANGE_INTERNAL_H

#include "base/map.h"
#include "store/exchange.h"
#include "swarm/bucket.h"
#include "swarm/picker.h"
#include "swarm/seeding.h"

enum { PACK_PENDING_MAX = 256 }; /* leaves of one pack being hashed and written */

struct exchange_pack {
    struct hash hash;
    char hex[HASH_HEX];
    struct pack_index *index;
    char *path;
    int fd;
    bool seeded_only; /* the file is somebody else's: never deleted */
    struct picker *picker;
    struct exchange_fetch *fetch; /* NULL: complete, or given up for now */
    int bitmap_fd;
    size_t pending;       /* leaves and checks in the pool */
    bool forgotten;       /* freed when pending is 0 */
    bool checking;        /* leaves on disk are being hashed after a restart */
    bool untold;          /* a BITMAP did not fit into a link's buffer: the tick sends it */
    struct bitmap seeded; /* leaves that came from region nodes */
    struct buf
        fresh_far; /* and those to be told to seeds, at the tick only: there are many of us */
    /* A region node shows pieces one by one (swarm/seeding.h); NULL: all that is here. */
    struct seeding *seeding;
    struct loop *loop;
    int64_t idle_ms; /* when the uplink was last found idle */
    struct exchange_link *shown_to[SEEDING_PEERS_MAX];
    struct buf fresh; /* leaf numbers (uint32_t) to be told by HAVE at the next tick */
};

/* What one link has of one pack. */
struct link_pack {
    struct hash hash;
    struct buf remote; /* its bitmap, as it came, when we do not have the pack ourselves */
    bool heard;        /* a BITMAP came */
    bool told;         /* ours was sent */
    bool leaving;      /* the empty one is to be sent: its buffer was full */
    int peer;          /* in the pack's picker, -1: none */
    int shown;         /* in its seeding, -1: is told all */
};

struct want {
    struct hash pack;
    uint32_t first, count;
};

struct exchange_link {
    struct exchange *x;
    struct link *link;
    bool is_seed; /* a region node */
    bool gone;    /* detached; freed when reading is 0 */
    struct link_pack *packs;
    size_t npacks, packs_cap;
    size_t remote_bytes; /* in packs[].remote */
    struct want *wants;
    size_t nwants, wants_cap, wanted_leaves;
    size_t reading; /* leaves of its wants in the pool */
    struct list node;
    struct list wanting; /* in x->wanting while it has wants */
    struct list serving; /* in x->serving since it was given a leaf */
    int64_t served_ms;   /* when that was */
};

struct exchange {
    struct exchange_options o;
    char *dir;
    struct list links, wanting, serving;
    struct map by_link; /* %p of its struct link -> struct exchange_link */
    struct map packs;   /* hex -> struct exchange_pack */
    struct map objects; /* hex -> struct buf */
    struct map bad;     /* link id -> count, as uintptr_t */
    struct list object_gets;
    size_t reading;
    size_t works; /* in the pool: giving, arrivals, openings */
    struct timer tick;
    struct bucket up, down;
    struct timer up_again, down_again; /* when a bucket has filled */
    struct exchange_counts counts;
};

struct exchange_pack *pack_find(const struct exchange *x, const struct hash *hash);
struct exchange_link *link_find(const struct exchange *x, const struct link *l);
void exchange_link_free(struct exchange_link *l);
struct link_pack *link_pack_find(struct exchange_link *l, const struct hash *hash);
/* Finds or makes it; NULL at EXCHANGE_LINK_PACKS_MAX. */
struct link_pack *link_pack_get(struct exchange_link *l, const struct hash *hash);
void link_pack_drop(struct exchange_link *l, struct link_pack *lp);

void pack_on_bitmap(struct exchange_link *l, const struct msg_bitmap *m);
void pack_on_have(struct exchange_link *l, const struct msg_have *m);
void pack_on_leaf(struct exchange_link *l, const struct msg_leaf *m);
void pack_on_refuse(struct exchange_link *l, const struct msg_refuse *m);
void pack_leave_rest(struct exchange_link *l); /* empty BITMAPs that are still to be sent */
void pack_link_opened(struct exchange_link *l);
void pack_link_closed(struct exchange_link *l);
void pack_tick(struct exchange_pack *p, struct exchange *x); /* HAVEs, overdue questions */
struct exchange_pack *pack_new(struct exchange *x, const struct hash *hash,
                               struct pack_index *index);
void pack_take_up(struct exchange *x,
                  struct exchange_pack *p); /* tells everybody, asks everybody */
void pack_maybe_done(struct exchange *x,
                     struct exchange_pack *p); /* calls back if it is complete */
bool pack_can_ask(const struct exchange_pack *p);
void pack_ask_all(struct exchange *x, struct exchange_pack *p);
void pack_tell_haves(struct exchange *x, struct exchange_pack *p); /* p->fresh */
void pack_finish(struct exchange_pack *p, int status); /* ends its fetch; p may be gone then */
void pack_drop(struct exchange *x, struct exchange_pack *p); /* frees it once nothing is pending */
void pack_free(struct exchange *x, struct exchange_pack *p);

void pack_ask_again(struct timer *t); /* down_again */
void give_again(struct timer *t);     /* up_again */

/* exchange_show.c */
void show_peer_begin(struct exchange_pack *p, struct exchange_link *l, struct link_pack *lp,
                     const struct msg_bitmap *m);
void show_peer_end(struct exchange_pack *p, struct link_pack *lp);
void show_given(struct exchange_pack *p, struct exchange_link *l, uint32_t leaf);
void show_more(struct exchange_pack *p);
void show_idle(struct exchange *x); /* nobody wants anything now */

void give_on_want(struct exchange_link *l, const struct msg_want *m);
void give_more(struct exchange *x);

void object_on_ask(struct exchange_link *l, const struct msg_object_ask *m);
void object_on_object(struct exchange_link *l, const struct msg_object *m);
void object_link_opened(struct exchange *x);
void object_link_closed(struct exchange_link *l);
void object_tick(struct exchange *x);

/* Counts a bad leaf or object against the link's other side; closes the link at the limit. */
void link_was_bad(struct exchange_link *l, const char *what);

#endif
