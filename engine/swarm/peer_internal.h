/* peer_internal.h - what the files of peer share; not for its users.
 *
 *   peer.c       tables of links and packs, dispatch, the tick, figures
 *   peer_view.c  tables of views, see below
 *   peer_down.c  what is asked of whom, what arrives
 *   peer_late.c  what arrives when nobody waits for it any more
 *   peer_up.c    who wants what of us, and who is given it next
 *   peer_tell.c  BITMAP and HAVE; the queue of actions
 *   peer_show.c  a node: which piece is shown to whom
 *   peer_prefetch.c  memory at hand before it is needed
 *
 * A view is what one link and one pack have to do with each other. A machine makes one as soon as both
 * are there, and tells BITMAP; a node makes one when it hears of the pack. */
#ifndef SWARM_PEER_INTERNAL_H
#define SWARM_PEER_INTERNAL_H

#include "base/list.h"
#include "swarm/bucket.h"
#include "swarm/peer.h"
#include "swarm/rarity.h"

struct peer_want {
    uint32_t first, count;
};

/* A question: leaves of one piece that a link was asked for and has not sent. */
struct peer_asked {
    struct peer_view *view;
    int64_t since_ms;
    uint32_t first;
    uint64_t left; /* bit i: leaf first + i is still to come */
};

struct peer_view {
    struct peer_link *link;
    struct peer_pack *pack;
    struct bitmap has; /* leaves */
    bool to_node;      /* as its link */
    bool heard;        /* a BITMAP came */
    bool told;         /* ours was sent */
    bool telling;      /* it is in the queue of actions */
    bool having;       /* a HAVE is */
    uint32_t tell_at;  /* leaves of the pack's order before this one were told */
    /* down */
    unsigned open, window; /* questions; how many there may be to a node */
    bool slow;             /* a machine that answers much later than others do */
    double answer_ms;      /* average from question to leaf; 0: none yet */
    double least_ms;       /* the fastest of late */
    /* up */
    struct list wanting; /* in the pack's wanting, while it wants something */
    struct peer_want *wants;
    size_t nwants, wants_cap;
    uint64_t served; /* when it was given something last, counted in gifts */
    /* a node's */
    struct bitmap counted; /* pieces that it has or was shown */
    bool missed;           /* it did not take in time what it was shown last */
    unsigned out;          /* shown and not given */
    int64_t others_ms;     /* when it had got something from somebody else */
};

enum { PEER_TAKEN = 8 };

/* A leaf of which a link was asked, until the question was taken back. */
struct peer_taken {
    uint32_t leaf;
    int pack; /* its number and 1; 0: none */
};

struct peer_link {
    int number;
    bool used, to_node;
    struct peer_view **views;
    size_t nviews, views_cap;
    size_t wanted;   /* leaves, in all views */
    unsigned giving; /* leaves that it is given now */
    int64_t giving_ms;
    struct list serving; /* in the peer's serving while giving > 0 */
    unsigned open;       /* questions, in all views */
    int64_t moved_ms;    /* when it brought something, or was asked with nothing open */
    int64_t quiet_ms;    /* until then it is asked nothing */
    uint64_t late;       /* leaves that nobody waits for any more, and that it may still send */
    struct peer_taken taken[PEER_TAKEN]; /* the last of them */
    unsigned taken_at;
    unsigned unasked; /* leaves that it has sent since it was accused of that */
};

/* Shown by a node and not given yet. */
struct peer_out {
    struct peer_view *view;
    uint32_t piece;
    int64_t since_ms;
    bool wanted; /* asked for, and in our queue */
};

struct peer_pack {
    int number;
    bool used;
    bool resting; /* wants nothing now, whatever it lacks */
    bool said_done;
    bool some;        /* not all leaves are wanted */
    int64_t stuck_ms; /* then: since when none of them can be asked for, 0: one can */
    bool passed;      /* has nothing to ask for in this round */
    size_t leaves, piece_leaves;
    uint32_t leaf_bytes;
    unsigned weight;
    double up_pass, down_pass; /* bytes over weight: the lesser has the next turn */
    struct bitmap have, wanted, arriving;
    uint64_t *todo; /* wanted, not here, not arriving, not asked for */
    size_t lacking, ntodo;
    struct rarity rarity;     /* over the views' has */
    struct peer_view **views; /* nodes first, then who was asked longest ago */
    size_t nviews, views_cap;
    struct list wanting;
    uint32_t *order; /* leaves in the order in which they came: what HAVE is made of */
    size_t norder, order_cap;
    struct peer_asked *asked;
    size_t nasked, asked_cap;
    size_t asks;                  /* of nasked: of machines that are not slow */
    size_t nslow;                 /* views */
    double answer_ms;             /* of all links */
    double gap_ms;                /* average between two leaves that come; 0: not known */
    int64_t came_ms;              /* when the last came */
    int64_t tell_ms, tell_far_ms; /* when HAVEs are due, to machines and to nodes; 0: none */
    /* a node's */
    bool shows;
    struct rarity copies; /* pieces, over the views' counted */
    struct peer_out *outs;
    size_t nouts, outs_cap, out_limit;
    size_t counted;  /* pieces, by all views that have not all, together */
    size_t nfull;    /* views that have */
    int64_t look_ms; /* before that nothing is shown, unless something is taken */
    struct peer_figures figures;
};

struct peer_queued {
    enum peer_action_kind kind;
    int link, pack;
    uint32_t first, count; /* of HAVE: what is shown; count 0: what has come since */
    enum err_code code;
    const char *why;
};

struct peer {
    struct peer_options o;
    uint64_t random;
    struct peer_link **links;
    size_t nlinks, links_cap, free_link; /* no number below that is free */
    struct peer_pack **packs;
    size_t npacks, packs_cap;
    struct list serving; /* who was given something first is at the head */
    size_t nserving;
    size_t most_uploads; /* once as many gifts were given as that takes */
    uint64_t gifts;
    size_t queued;           /* leaves that are wanted of us */
    double give_ms;          /* average from GIVE to SENT */
    double up_now, down_now; /* pass of the pack that had the last turn */
    struct bucket up, down;
    bool down_waits;  /* for the bucket */
    int64_t check_ms; /* when overdue questions are looked for; 0: there are none */
    int64_t due_ms;
    int64_t
        stuck_ms; /* when a slot will be free because its link is stuck; -1: one is free already */
    struct peer_queued *actions;
    size_t action_at, nactions, actions_cap;
    struct msg_index *leaves; /* of the HAVE that was taken last */
    unsigned char *zeros;     /* a BITMAP of nothing */
    size_t leaves_cap, zeros_cap;
    uint64_t *scratch; /* words of the largest pack */
    size_t scratch_words;
};

enum {
    PEER_CHECK_MS = 250,
    PEER_GAP_MAX_MS = 2000,
    PEER_END_CHECK_MS = 50,
    PEER_END = 4,        /* leaves that are lacking, or that share of all: */
    PEER_END_SHARE = 50, /* then one more link is asked for each */
    PEER_STEAL_MIN_MS = 500,
    PEER_STEAL_FIRST_MS = 1500, /* of a link that has not answered yet */
    PEER_TAKE_MS = 3000,        /* shown and not asked for: it may be shown to another */
    PEER_TAKE_GIFTS = 16,       /* or, asked for, not given in that many times what giving takes */
    PEER_ALONE_MS = 1000,       /* got nothing from others for that long, and that many times */
    PEER_ALONE_GIFTS = 8,       /* what giving takes: it lives on the node */
    PEER_OUT = 2,      /* pieces that one machine was shown and not given; more if there are few */
    PEER_OUT_ALL = 12, /* and all together; doubled when the uplink idles */
    PEER_OUT_MAX = 256,
    PEER_SHOW_MS = 50,    /* in which what is shown is usually asked for */
    PEER_QUEUE_LOW = 2,   /* leaves that are wanted of us: below that our HAVEs are urgent */
    PEER_ASSUME_MS = 500, /* nobody has told of a leaf that is wanted: a node is asked unasked */
};

uint64_t peer_random(struct peer *p);
size_t peer_pieces(const struct peer_pack *k);
void peer_wake(struct peer *p, int64_t at_ms); /* a tick is due then */
void peer_check_soon(struct peer *p, int64_t now_ms);
uint64_t *peer_scratch(struct peer *p, size_t words);
size_t peer_nth_bit(const uint64_t *set, size_t n); /* of those that are 1 */

struct peer_view *peer_view_find(const struct peer_link *l, const struct peer_pack *k);
struct peer_view *peer_view_get(struct peer *p, struct peer_link *l, struct peer_pack *k);
void peer_view_free(struct peer *p, struct peer_view *v);

/* peer_tell.c */
struct peer_queued *peer_push(struct peer *p, enum peer_action_kind kind,
                              const struct peer_view *v);
void peer_push_range(struct peer *p, enum peer_action_kind kind, struct peer_view *v,
                     uint32_t first, uint32_t count);
void peer_accuse(struct peer *p, const struct peer_view *v, const char *why);
void peer_accuse_link(struct peer *p, const struct peer_link *l, const char *why);
void peer_tell_bitmap(struct peer *p, struct peer_view *v);
void peer_tell_haves(struct peer *p, struct peer_view *v); /* what is untold, if anything */
void peer_tell_new(struct peer *p, struct peer_pack *k, int64_t now_ms); /* a leaf has come */
void peer_tell_due(struct peer *p, struct peer_pack *k, int64_t now_ms);

/* peer_down.c */
void peer_down_set_todo(struct peer_pack *k, size_t leaf);
bool peer_down_can_ask(const struct peer_pack *k);
void peer_down_ask(struct peer *p, struct peer_view *v, int64_t now_ms);
void peer_down_ask_pack(struct peer *p, struct peer_pack *k, int64_t now_ms);
void peer_down_ask_all(struct peer *p, int64_t now_ms);
bool peer_down_takes(struct peer *p, struct peer_view *v, uint32_t leaf, int64_t now_ms);
void peer_down_verified(struct peer *p, struct peer_pack *k, struct peer_view *v, uint32_t leaf,
                        int64_t now_ms);
void peer_down_bad(struct peer *p, struct peer_pack *k, struct peer_view *v, uint32_t leaf,
                   int64_t now_ms);
void peer_down_refused(struct peer *p, struct peer_view *v, const struct peer_event *e,
                       int64_t now_ms);
/* Who wants only some leaves of a pack would wait long for a node to show just these. */
void peer_down_assume(struct peer_pack *k, int64_t now_ms);
void peer_down_has(struct peer_view *v, size_t leaf, bool has); /* keeps rarity */
void peer_down_drop(struct peer *p, struct peer_view *v);       /* its questions are free again */
void peer_down_judge(struct peer_pack *k, int64_t now_ms);      /* who is slow */
void peer_down_expire(struct peer *p, struct peer_link *l, int64_t now_ms);

/* peer_late.c */
void peer_late_note(struct peer_view *v, uint32_t leaf); /* nobody waits for it any more */
/* Was it one of the last of which that was noted? Once. */
bool peer_late_is_answer(struct peer_link *l, const struct peer_pack *k, uint32_t leaf);
/* A leaf that nobody waits for has come; false: it is more than the link was asked for in all, whatever
 * became of the questions, and is held against it. v may be NULL. */
bool peer_late_may_come(struct peer *p, struct peer_link *l, const struct peer_view *v);

/* peer_up.c */
void peer_up_set_most(struct peer *p); /* a pack has been opened or closed */
void peer_up_want(struct peer *p, struct peer_view *v, uint32_t first, uint32_t count,
                  int64_t now_ms);
void peer_up_cancel(struct peer *p, struct peer_view *v, uint32_t first, uint32_t count);
void peer_up_drop(struct peer *p, struct peer_view *v); /* all that it wants */
void peer_up_sent(struct peer *p, struct peer_link *l, int64_t now_ms);
/* True: nobody wants anything more. */
bool peer_up_give(struct peer *p, int64_t now_ms);
bool peer_up_idles(const struct peer *p);
/* It takes what it is given much more slowly than others do. */
bool peer_up_is_stuck(const struct peer *p, const struct peer_link *l, int64_t now_ms);

/* peer_show.c */
void peer_show_begin(struct peer_view *v, int64_t now_ms); /* what it has is in v->has */
void peer_show_end(struct peer_view *v);
void peer_show_has(struct peer_view *v, size_t leaf, int64_t now_ms);
void peer_show_wanted(struct peer_view *v, size_t leaf);
void peer_show_given(struct peer_view *v, size_t leaf);
void peer_show_more(struct peer *p, struct peer_pack *k, int64_t now_ms);
bool peer_show_is_busy(const struct peer_pack *k);
void peer_show_idle(struct peer *p, int64_t now_ms);

#endif
