/* peer.h - one host in the swarms of its packs: what it asks of whom, gives to whom, and tells. Pure.
 *
 * The driver owns links, files and hashing (store/exchange.h, or a simulator); it says what happened
 * and does what it is told:
 *
 *     peer_new(&options)
 *     pack = peer_pack_open(p, &pack_options, now)      a pack that it wants, or has
 *     link = peer_link_open(p, from_node, now)          an open link to another host
 *     peer_step(p, &event, now)                         a message came, a leaf was verified, …
 *     while (peer_next(p, &action))                     what to send, read or report now
 *     at peer_next_ms(p): peer_step(p, TICK)
 *
 * Drain the actions after every call that takes the time, then ask for the next tick. Numbers of links
 * and packs are small, are the driver's until it closes them, and are used again.
 *
 * A leaf is the unit of verification and of giving, a piece (2^k leaves) the unit of asking. What the
 * machine does, and why:
 *
 *   - down: the rarest piece first, ties at random; few pieces asked of a link at a time, more of one
 *     that runs dry; a piece is asked of one link, until it is overdue by that link's own measure, or
 *     until nothing else is left to ask for (the end): then one more is asked and the slower is told
 *     CANCEL;
 *   - up: the least complete of those who want something is served first, few at a time, and each
 *     choice is made as late as the link allows: SENT says that a link has room;
 *   - HAVE rides on other messages, or goes at once while the uplink lacks requests, or after
 *     PEER_HAVE_MS;
 *   - a node (a region node, a seed) shows one piece at a time, the one that the fewest have or were
 *     shown, to the least complete; after PEER_NODE_COPIES of each it shows only to those that get
 *     nowhere;
 *   - packs share the uplink and the limits by weight.
 *
 * No allocation once tables have grown. A step costs a few operations per 64 leaves. Memory: about 200
 * bytes and a bitmap a link, 4 bytes a leaf.
 *
 * Sources: fairness of senders, showing, few uploads: own simulation; rarest first: Legout et al.,
 * IMC 2006; showing: super seeding, BEP 16; end game: BEP 3; two-sided choice: Sanghavi, Hajek and
 * Massoulie, "Gossiping with multiple messages", 2007. */
#ifndef SWARM_PEER_H
#define SWARM_PEER_H

#include "base/bitmap.h"
#include "wire/msg.h"

enum {
    PEER_UPLOADS_LEAST = 4,   /* links that are given leaves at a time, stuck ones not counted, */
    PEER_UPLOADS_PIECES = 64, /* and one more for so many pieces of the largest pack, */
    PEER_UPLOADS = 8,         /* at most; half as many more of a node, everybody's beginning */
    PEER_UPLOADS_FIRST = 2,   /* one more after each PEER_UPLOADS_GIFTS leaves */
    PEER_UPLOADS_GIFTS = 4,
    PEER_STUCK_MS = 100,        /* without SENT, or four times what it usually takes */
    PEER_STUCK_FIRST_MS = 2000, /* until that is known */
    PEER_WAITING = 2,           /* pieces that wait beside those that are given, then REFUSE */
    PEER_BACK_MS = 40,          /* that a link is asked nothing after REFUSE */
    PEER_ASKS = 8,              /* pieces asked of all machines together that are not slow: */
    PEER_SLOW = 3,              /* that answer not so many times later than is usual */
    PEER_ASKS_MORE = 5,         /* at most, where a piece takes less than: */
    PEER_LATENCY_MS = 150, /* a question's way and that of its first byte, on links that are full */
    PEER_NODE_ASKS = 4,    /* of a node, at first; it shows only what it can give */
    PEER_NODE_ASKS_MAX = 16,
    PEER_ASKED_MAX = 4,      /* links asked for one leaf */
    PEER_QUEUE_MAX = 1024,   /* leaves that one link may want of all packs */
    PEER_ARRIVING_MAX = 256, /* leaves of one pack that are being verified; */
    PEER_ARRIVING_BUSY = 48, /* from so many on none are asked for: disk or processor lags */
    PEER_HAVE_MS = 50,       /* the longest that a HAVE waits for company */
    PEER_NODE_HAVE_MS = 250, /* likewise, to a node, that hears of everybody */
    PEER_SILENT_MS =
        30000,             /* a link that is asked and brings nothing loses what it was asked for */
    PEER_UNASKED_MAX = 16, /* leaves that a link sends unasked before it is accused, each time */
    PEER_NODE_COPIES = 2,
    PEER_WEIGHT_MAX = 64,
    PEER_HOPS = 6,
    PIECE_LEAVES_MAX = 64,
};

enum peer_event_kind {
    PEER_EVENT_NONE = 0,
    /* messages: link, pack, and what wire/msg.h has */
    PEER_ON_BITMAP, /* bitmap; empty: neither has nor wants anything of it any more */
    PEER_ON_HAVE,   /* leaves, count */
    PEER_ON_WANT,   /* first, count */
    PEER_ON_CANCEL, /* first, count */
    PEER_ON_REFUSE, /* first, count, code */
    /* what became of a leaf that peer_takes() took (first; link, or -1 if that is closed) */
    PEER_VERIFIED,
    PEER_BAD, /* it does not match its digest, or could not be written */
    /* what became of a GIVE: link, pack, first */
    PEER_SENT,   /* the link has room for another */
    PEER_UNREAD, /* our copy is damaged or gone: from now on we do not have it */
    /* a message did not fit into the link's buffer: what, link, pack, first, count of that action */
    PEER_UNSENT,
    PEER_TICK,
};

enum peer_action_kind {
    PEER_ACTION_NONE = 0,
    PEER_BITMAP, /* send: bitmap, borrowed until the next call */
    PEER_HAVE,   /* send: leaves, count, borrowed likewise */
    PEER_WANT,   /* send: first, count */
    PEER_CANCEL, /* likewise */
    PEER_REFUSE, /* likewise, and code */
    PEER_GIVE,   /* read leaf `first` and send it as LEAF; then SENT or UNREAD is due */
    PEER_ACCUSE, /* the link's other side broke the protocol: `why`; count it against it. pack may be -1 */
    PEER_DONE, /* all that is wanted of the pack is here */
};

struct peer_event {
    enum peer_event_kind kind;
    int link, pack;
    uint32_t first, count;
    enum err_code code;
    enum peer_action_kind what; /* of UNSENT */
    const struct msg_index *leaves;
    struct bytes bitmap;
};

struct peer_action {
    enum peer_action_kind kind;
    int link, pack;
    uint32_t first, count;
    enum err_code code;
    const struct msg_index *leaves;
    struct bytes bitmap;
    const char *why;
};

struct peer_options {
    uint64_t seed; /* of its randomness */
    bool is_node;  /* a region node or seed: speaks of a pack only with those who do, and shows */
};

struct peer_pack_options {
    size_t leaves;
    size_t piece_leaves;         /* 1, 2, 4 … 64; 0: peer_piece_leaves() */
    uint32_t leaf_bytes;         /* counted for limits; 0: LEAF_BYTES */
    const struct bitmap *have;   /* NULL: none. Copied, as the next one */
    const struct bitmap *wanted; /* NULL: all */
    bool complete;               /* has all: have is not looked at */
    bool resting;                /* wants nothing for now, see peer_pack_rest() */
    unsigned weight; /* share of the uplink and of the limits, 1 … PEER_WEIGHT_MAX; 0: 1 */
};

struct peer;

/* Leaves a piece for a pack of that many leaves: 1, 2, 4 … 64. */
size_t peer_piece_leaves(size_t leaves);

struct peer *peer_new(const struct peer_options *o);
void peer_free(struct peer *p);

int peer_link_open(struct peer *p, bool to_node, int64_t now_ms);
void peer_link_close(struct peer *p, int link, int64_t now_ms);

int peer_pack_open(struct peer *p, const struct peer_pack_options *o, int64_t now_ms);
/* The driver says the empty BITMAP to the links that were told of it. */
void peer_pack_close(struct peer *p, int pack, int64_t now_ms);
/* From now on these leaves are wanted (copied; leaves past its bits are not); NULL: all. */
void peer_pack_want(struct peer *p, int pack, const struct bitmap *leaves, int64_t now_ms);
/* Wants nothing more for now, and goes on giving: a fetch was given up. */
void peer_pack_rest(struct peer *p, int pack);
void peer_pack_weigh(struct peer *p, int pack, unsigned weight);

const struct bitmap *peer_pack_has(const struct peer *p, int pack);
bool peer_pack_wants(const struct peer *p, int pack, size_t leaf); /* whether it is here or not */
bool peer_pack_done(const struct peer *p, int pack);               /* all that is wanted is here */
/* What the link's other side has of it, NULL: it has said nothing. */
const struct bitmap *peer_link_has(const struct peer *p, int link, int pack);

bool peer_link_told(const struct peer *p, int link, int pack); /* our BITMAP was sent */

/* A LEAF came, of a pack that is not open if pack is -1. True: verify it and say VERIFIED or BAD; false:
 * drop it, it is of no use. A link may send each leaf as often as it was asked for it, however late; what
 * is more is dropped, is no sign of life, and is held against it (an ACCUSE). */
bool peer_takes(struct peer *p, int link, int pack, uint32_t leaf, int64_t now_ms);

void peer_step(struct peer *p, const struct peer_event *e, int64_t now_ms);
bool peer_next(struct peer *p, struct peer_action *ret);
int64_t peer_next_ms(const struct peer *p); /* when a TICK is due, or -1 */

/* Brings into the processor's caches what a step on that link (-1: none; all: on every one) will look
 * at, one hop from pointer to pointer at a time: call it with hop 0 to PEER_HOPS - 1, with some time
 * between. Changes nothing. For those who drive thousands of peers and know which one is next. */
void peer_prefetch(const struct peer *p, int link, int pack, bool all, int hop);

/* Bytes a second that leaves may take, of all packs and links together; 0: no limit. At any time. */
void peer_limit(struct peer *p, uint64_t up_bytes, uint64_t down_bytes, int64_t now_ms);

/* Since the pack was opened. */
struct peer_figures {
    uint64_t given, taken;    /* leaves */
    uint64_t taken_from_node; /* of these */
    uint64_t useless;         /* came although they were here already */
    uint64_t stolen;          /* asked of a second link because the first was overdue */
    uint64_t doubled;         /* asked of a second link at the end */
    uint64_t cancelled, refused, bad;
    uint64_t shown;            /* by a node: pieces */
    int64_t begun_ms, done_ms; /* done_ms: 0 until all that is wanted was here */
};
struct peer_figures peer_pack_figures(const struct peer *p, int pack);

#endif
