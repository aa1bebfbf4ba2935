/* exchange_internal.h - what the files of exchange share; not for its users.
 *
 *   exchange.c         links, dispatch, bans, the tick
 *   exchange_act.c     does what swarm/peer.h decides
 *   exchange_object.c  objects: offered, asked for, fetched
 *   exchange_pack.c    packs: opened, told of, forgotten
 *   exchange_arrive.c  a leaf that arrives: verified and written
 *   exchange_fetch.c   a fetch: index, files of an earlier run, start
 *   exchange_give.c    a leaf that goes: read and sent
 *   exchange_recent.c  leaves that are in memory
 *   exchange_tally.c   what is counted of it
 *
 * All decisions are swarm/peer.h's: here are links, files and hashing. What the other side of a link has
 * of packs that we do not have is kept here, until we have them. */
#ifndef STORE_EXCHANGE_INTERNAL_H
#define STORE_EXCHANGE_INTERNAL_H

#include "base/map.h"
#include "io/link_block.h"
#include "store/exchange.h"
#include "swarm/peer.h"

enum { METER_SLOTS = 4, METER_MS = 900 /* that its slots span at least, to tell a rate */ };

/* Bytes that were kept in the last few ticks. */
struct meter {
    uint64_t bytes[METER_SLOTS];
    int64_t since_ms[METER_SLOTS];
    size_t at;
    uint64_t best; /* a second */
};

struct exchange_pack {
    struct exchange *x;
    struct hash hash;
    char hex[HASH_HEX];
    int number; /* the peer's; -1: not taken up yet */
    struct pack_index *index;
    char *path;
    int fd;
    struct placed *placed;        /* the caller's: where all lies but the table; or NULL */
    bool seeded_only;             /* the file is somebody else's: never deleted */
    struct exchange_fetch *fetch; /* NULL: complete, or given up for now */
    int bitmap_fd;
    int64_t given_ms; /* when a leaf was last given */
    uint64_t given_bytes;
    struct peer_figures counted; /* up to here the fetch's tally has them */
    size_t pending;              /* leaves and checks in the pool */
    bool forgotten;              /* freed when pending is 0 */
    bool unsaved;                /* the bitmaps on disk lag behind */
    struct bitmap seeded;        /* leaves that came from region nodes */
    struct bitmap verified;      /* leaves whose bytes on disk were hashed in this run */
    uint64_t *sums; /* by leaf: checksum_of() its bytes then; 0: not hashed in this run */
};

/* What one link's other side has of a pack that we do not have. */
struct remote {
    struct hash hash;
    struct buf bitmap; /* as it came */
    bool leaving;      /* nothing is kept; the empty BITMAP is to be sent: its buffer was full */
};

struct exchange_link {
    struct exchange *x;
    struct link *link;
    int number;   /* the peer's */
    bool is_seed; /* a region node */
    enum peer_rack rack;
    bool gone; /* detached; freed when reading is 0 */
    bool full; /* it has no room for another leaf: SENT is owed */
    struct remote *remotes;
    size_t nremotes, remotes_cap;
    size_t remote_bytes; /* in remotes */
    size_t reading;      /* leaves for it in the pool */
    struct list node;
};

struct exchange {
    struct exchange_options o;
    char *dir;
    struct peer *peer;
    struct exchange_link **numbers; /* of the peer's links */
    struct exchange_pack **slots;   /* of the peer's packs */
    size_t nnumbers, nslots;
    struct list links;
    struct map by_link; /* %p of its struct link -> struct exchange_link */
    struct map packs;   /* hex -> struct exchange_pack */
    struct map objects; /* hex -> struct buf */
    struct map bad;     /* role and id of a link -> count, as uintptr_t */
    struct list object_gets;
    size_t works;       /* in the pool, or waiting for it: giving, arrivals, openings */
    struct list recent; /* leaves in memory, the latest last */
    size_t nrecent;
    struct list arriving; /* leaves that came, and are not in a batch yet */
    size_t narriving;
    int batches;         /* in the pool */
    struct timer gather; /* then a batch starts */
    int64_t arrived_ms;  /* the last of them */
    int64_t gap_us;      /* between them, on average */
    bool acting;         /* exchange_act() runs */
    struct timer tick, due;
    int64_t due_ms; /* when due fires */
    struct exchange_counts counts;
    struct meter meter;
};

struct exchange_pack *pack_find(const struct exchange *x, const struct hash *hash);
struct exchange_link *link_find(const struct exchange *x, const struct link *l);
void exchange_link_free(struct exchange_link *l);

/* exchange_act.c */
int64_t exchange_now(const struct exchange *x);
void exchange_step(struct exchange *x, const struct peer_event *e); /* then acts */
void exchange_act(struct exchange *x);
void exchange_act_soon(struct exchange *x); /* from the loop */

/* exchange_pack.c */
void pack_on_bitmap(struct exchange_link *l, const struct msg_bitmap *m);
void pack_leave_rest(struct exchange_link *l); /* empty BITMAPs that are still to be sent */
struct exchange_pack *pack_new(struct exchange *x, const struct hash *hash,
                               struct pack_index *index);
/* The peer has opened it as p->number: it hears what links said of it before. */
void pack_take_up(struct exchange *x, struct exchange_pack *p);
void pack_finish(struct exchange_pack *p, int status); /* ends its fetch; p may be gone then */
void pack_drop(struct exchange *x, struct exchange_pack *p); /* frees it once nothing is pending */
void pack_free(struct exchange *x, struct exchange_pack *p);
void pack_save(struct exchange_pack *p); /* its bitmaps, if they have changed */
/* Bytes of a pack, wherever they lie; in the pool. */
MUST_CHECK int pack_read(const struct exchange_pack *p, void *data, size_t len, uint64_t offset,
                         struct err *err);
MUST_CHECK int pack_write(const struct exchange_pack *p, const void *data, size_t len,
                          uint64_t offset, struct err *err);

void pack_on_leaf(struct exchange_link *l, const struct msg_leaf *m);
void give_start(struct exchange *x, const struct peer_action *a);
void give_room(struct exchange_link *l); /* little waits on it now */

/* exchange_recent.c: leaves that came a moment ago, and are given from memory: the neighbours ask for what is
 * rare. keep takes b; find borrows it. drop: those of p, or of any if it is NULL, that nobody has wanted since. */
void recent_keep(struct exchange_pack *p, uint32_t leaf, struct link_block *b);
struct link_block *recent_find(struct exchange_pack *p, uint32_t leaf);
void recent_drop(struct exchange *x, const struct exchange_pack *p, int64_t since_ms);

void object_on_ask(struct exchange_link *l, const struct msg_object_ask *m);
void object_on_object(struct exchange_link *l, const struct msg_object *m);
void object_link_opened(struct exchange *x);
void object_link_closed(struct exchange_link *l);
void object_tick(struct exchange *x);

/* exchange_tally.c: before a fetch ends or begins, and now and then, tally_pack() settles what the peer has
 * counted since. */
void tally_kept(struct exchange_pack *p, enum peer_rack rack, size_t bytes);
void tally_was_bad(struct exchange_pack *p, struct exchange_link *l, const char *what);
void tally_pack(struct exchange_pack *p);
void tally_arrived(struct exchange *x, size_t bytes);
void tally_tick(struct exchange *x);

/* Counts a bad leaf or object against the link's other side; closes the link at the limit. */
void link_was_bad(struct exchange_link *l, const char *what);

#endif
