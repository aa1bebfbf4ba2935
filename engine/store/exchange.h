/* exchange.h - packs and objects between this process and its neighbours, over link.
 *
 * Used by region nodes (which only give) and agents (which fetch, and give what they have
 * meanwhile). An object is a manifest or a pack index, named by its SHA-256 and kept in memory; a
 * pack is a file, verified leaf by leaf against its index before a leaf is kept or served.
 *
 *     exchange_new(&x, &options, &err);
 *     exchange_attach(x, link)     each open link whose other side may have something or want it
 *     exchange_message(x, link, type, msg), exchange_drained(x, link)     in the link handler
 *     exchange_detach(x, link)
 *
 * Files of a pack in dir: HEX.pack (of one that is `placed`, only its table), and HEX.bitmap (two bitmaps: which leaves were verified, and which
 * of these came from a region node; they are hashed again after a restart). After kill -9 a fetch goes on
 * from there: no leaf is fetched again that was verified EXCHANGE_TICK_MS before. A leaf that fails its hash is thrown away and counted against its
 * sender; at EXCHANGE_BAD_MAX the link is closed and the sender (its role and id) refused until restart.
 *
 * All calls on the loop's thread; disk and hashing run in the work pool. Links and options' strings
 * are borrowed; a link must be detached before it is gone. */
#ifndef STORE_EXCHANGE_H
#define STORE_EXCHANGE_H

#include "base/bitmap.h"
#include "io/link.h"
#include "io/work.h"
#include "store/placed.h"
#include "wire/pack.h"

enum {
    EXCHANGE_BAD_MAX = 2,
    EXCHANGE_OUT_LOW = 32 << 10, /* bytes that wait on a link when the next leaf is chosen for it */
    EXCHANGE_LINK_PACKS_MAX = 256,      /* packs of which we remember what one link has */
    EXCHANGE_LINK_REMOTE_MAX = 1 << 20, /* bytes of that for packs that we do not have */
    EXCHANGE_TICK_MS = 250,
    EXCHANGE_RECENT_MAX = 32,   /* leaves that came are kept in memory, to be given from there, */
    EXCHANGE_RECENT_MS = 5000,  /* until nobody has wanted them for so long */
    EXCHANGE_OBJECT_MS = 10000, /* for one chunk of an object, then another link is asked */
    EXCHANGE_CHUNK_MS = 1000,   /* and for each further chunk of it on average */
    EXCHANGE_INDEX_MAX = LEAVES_MAX * HASH_BYTES + 128, /* bytes of a pack's index */
};

struct exchange;

struct exchange_options {
    struct loop *loop;
    struct work_pool *pool;
    const char *dir;
    uint64_t seed; /* random, per process */
    /* What the tracker is to be told; NULL in a region node. bitmap: leaves that we have. */
    void (*join)(void *ctx, const struct hash *pack, const struct bytes *bitmap);
    void (*leave)(void *ctx, const struct hash *pack);
    void *ctx;
};

MUST_CHECK int exchange_new(struct exchange **ret, const struct exchange_options *o,
                            struct err *err);
/* Work of ours is in the pool: run the loop until it is not, before exchange_free(). */
bool exchange_is_busy(const struct exchange *x);
void exchange_free(struct exchange *x); /* nothing attached, not busy */

void exchange_attach(struct exchange *x, struct link *l);
void exchange_detach(struct exchange *x, struct link *l);
/* True: it was a swarm message (BITMAP … OBJECT) and has been handled. */
bool exchange_message(struct exchange *x, struct link *l, enum msg_type type, const void *msg);
void exchange_drained(struct exchange *x, struct link *l);
bool exchange_is_banned(const struct exchange *x, const char *id); /* a machine; no region node */

/* Offers an object; bytes are copied. */
void exchange_offer(struct exchange *x, const void *bytes, size_t len);
/* Offers it no longer; harmless if it was not. */
void exchange_withdraw(struct exchange *x, const struct hash *object);

/* Gives a complete, verified pack file at path (which stays the caller's) to whoever asks. */
MUST_CHECK int exchange_seed(struct exchange *x, const void *index, size_t len, const char *path,
                             struct err *err);

/* Of a pack that was just seeded: checksum_of() each leaf, by a caller who has hashed them in its file
 * since this process began. They are compared before a leaf is given, instead of hashing it once more. */
void exchange_vouch(struct exchange *x, const struct hash *pack, const uint64_t *sums);

/* Fetches one object from any attached link; done fires once, from the loop. */
struct exchange_object {
    struct hash hash;
    size_t max;     /* bytes that it may have */
    struct buf out; /* the caller's to release */
    struct err err;
    void (*done)(struct exchange_object *o, int status);
    void *user;
    struct exchange *x; /* private from here on */
    struct list node;
    struct link *asked, *from;  /* from: whose bytes are in out, or NULL */
    int64_t asked_ms, begun_ms; /* this chunk, the first one, of that link */
    uint64_t total;
    uint32_t tried;
};
void exchange_object_start(struct exchange *x, struct exchange_object *o, const struct hash *hash,
                           size_t max, void (*done)(struct exchange_object *o, int status));
void exchange_object_cancel(struct exchange_object *o); /* no callback after this */

/* What a fetch met with. Its owner may let several fetches add to one. */
struct exchange_tally {
    uint64_t bytes;                 /* of leaves that came and were kept */
    uint64_t near_bytes, far_bytes; /* of these, from machines of our rack and of other ones */
    uint32_t stolen, doubled, useless, bad; /* leaves, see swarm/peer.h */
    char banned[BANNED_MAX][NAME_MAX_BYTES + 1];
    size_t nbanned;
};

/* Fetches a pack into dir, whole or some leaves of it. Progress may be read at any time. One fetch per pack at a time.
 * -ERR_NO_SPACE: disk full (what is verified stays; start again later). */
struct exchange_fetch {
    struct hash pack;
    uint64_t total_bytes, have_bytes; /* of the leaves that are wanted */
    uint64_t seed_bytes, peer_bytes;  /* of these: from region nodes, from machines */
    struct err err;
    void (*done)(struct exchange_fetch *f, int status);
    void *user;
    unsigned weight; /* share of the host's links beside other fetches, see swarm/peer.h; 0: 1 */
    struct placed *placed; /* NULL, or where its bytes lie (placed.h); until the pack is closed */
    struct exchange_tally *tally; /* is added to while the fetch runs; NULL: nobody counts */
    struct exchange_pack *p;      /* private from here on */
    struct exchange_object index;
    struct exchange *x;
    bool active;
    struct bitmap want; /* if `some` */
    bool some;
};
void exchange_fetch_start(struct exchange *x, struct exchange_fetch *f, const struct hash *pack,
                          void (*done)(struct exchange_fetch *f, int status));
/* Only these leaves (copied; leaves beyond its bits are not wanted, so that one of 0 bits only gives
 * what is on disk to others again). Another fetch of the same pack may follow. */
void exchange_fetch_some(struct exchange *x, struct exchange_fetch *f, const struct hash *pack,
                         const struct bitmap *want,
                         void (*done)(struct exchange_fetch *f, int status));
void exchange_fetch_cancel(struct exchange_fetch *f); /* no callback after this; files stay */

/* Are these leaves here, verified? */
bool exchange_has(const struct exchange *x, const struct hash *pack, size_t first, size_t count);

/* Path of a pack of which all that was wanted last is here (borrowed until it is forgotten), or NULL.
 */
const char *exchange_path(const struct exchange *x, const struct hash *pack);

/* The leaves of a pack that are here, verified, and how many bytes of them came from where; borrowed
 * until the loop runs on. NULL: it is not open, or still being looked at. */
const struct bitmap *exchange_leaves(const struct exchange *x, const struct hash *pack,
                                     uint64_t *ret_seed_bytes, uint64_t *ret_peer_bytes);

/* Of an open pack, which leaves are here, verified; as exchange_leaves(), but at no cost. */
const struct bitmap *exchange_bitmap(const struct exchange *x, const struct hash *pack);

/* When a leaf of it was last given to somebody, by loop_now_ms(); 0: never. */
int64_t exchange_given_ms(const struct exchange *x, const struct hash *pack);

/* Bytes of its leaves that were sent since it was opened. */
uint64_t exchange_given_bytes(const struct exchange *x, const struct hash *pack);
/* The most bytes a second that were kept of all packs, in any whole second; 0: there was none yet. */
uint64_t exchange_best_rate(const struct exchange *x);
/* What the tracker says of the other side; RACK_UNKNOWN until then. */
void exchange_set_rack(struct exchange *x, const struct link *l, enum peer_rack rack);
/* Has the other side said what it has of a pack? */
bool exchange_has_heard(const struct exchange *x, const struct link *l, const struct hash *pack);

/* Closes it; its files stay. Whoever fetches it again has every leaf on disk hashed anew, and what has
 * rotted meanwhile comes again. */
void exchange_close(struct exchange *x, const struct hash *pack);

/* Stops giving it and, if it lies in dir, deletes its files. */
void exchange_forget(struct exchange *x, const struct hash *pack);

/* Sends join() for every pack again: after the link to the region node was opened. */
void exchange_rejoin(struct exchange *x);

/* Bytes a second that leaves may take, of all packs and links together; 0: no limit. At any time. */
void exchange_limit(struct exchange *x, uint64_t up_bytes, uint64_t down_bytes);

struct exchange_counts {
    uint64_t sent_bytes, bad_leaves, banned, refused;
};
struct exchange_counts exchange_counts(const struct exchange *x);

#endif
