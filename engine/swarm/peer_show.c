#include <stdlib.h>

#include "base/mem.h"
#include "swarm/peer_internal.h"

/* A node that showed all it has would be asked for the same pieces by many at once, and its uplink, the
 * scarce thing at the start, would carry duplicates. So it shows a piece at a time: to the least
 * complete machine the piece that the fewest have or were shown. Few are out at a time; one that is not
 * asked for in PEER_TAKE_MS may be shown to somebody else. */

static size_t piece_of(const struct peer_pack *k, size_t leaf)
{
    return leaf / k->piece_leaves;
}

/* Who has all wants nothing, and is no measure for the others: whoever lies would set it. */
static void measure(struct peer_view *v, bool with)
{
    struct peer_pack *k = v->pack;

    if (bitmap_full(&v->counted))
        k->nfull = with ? k->nfull + 1 : k->nfull - 1;
    else
        k->counted = with ? k->counted + v->counted.set : k->counted - v->counted.set;
}

static bool count(struct peer_view *v, size_t piece)
{
    if (bitmap_get(&v->counted, piece))
        return false;
    measure(v, false);
    (void)bitmap_put(&v->counted, piece, true);
    measure(v, true);
    rarity_add(&v->pack->copies, piece);
    return true;
}

static void uncount(struct peer_view *v, size_t piece)
{
    if (!bitmap_get(&v->counted, piece))
        return;
    measure(v, false);
    (void)bitmap_put(&v->counted, piece, false);
    measure(v, true);
    rarity_remove(&v->pack->copies, piece);
}

static void drop_out(struct peer_pack *k, size_t i)
{
    k->look_ms = 0;
    k->outs[i].view->out--;
    k->outs[i] = k->outs[--k->nouts];
}

void peer_show_wanted(struct peer_view *v, size_t leaf)
{
    struct peer_pack *k = v->pack;

    for (size_t i = 0; v->out > 0 && i < k->nouts; i++)
        if (k->outs[i].view == v && k->outs[i].piece == piece_of(k, leaf))
            k->outs[i].wanted = true;
}

/* It has been given what it was shown, or has it from elsewhere. */
static void taken(struct peer_view *v, size_t piece)
{
    struct peer_pack *k = v->pack;

    for (size_t i = 0; v->out > 0 && i < k->nouts; i++) {
        if (k->outs[i].view != v || k->outs[i].piece != piece)
            continue;
        v->missed = false;
        drop_out(k, i);
        return;
    }
}

void peer_show_begin(struct peer_view *v, int64_t now_ms)
{
    v->pack->look_ms = 0;
    if (v->counted.bits == 0) {
        bitmap_init(&v->counted, peer_pieces(v->pack));
        v->others_ms = now_ms;
    }
    for (size_t i = 0; i < v->pack->leaves; i++)
        if (bitmap_get(&v->has, i))
            peer_show_has(v, i, now_ms);
}

void peer_show_end(struct peer_view *v)
{
    struct peer_pack *k = v->pack;

    for (size_t i = k->nouts; i-- > 0;)
        if (k->outs[i].view == v)
            drop_out(k, i);
    if (v->counted.bits == 0)
        return;
    rarity_remove_all(&k->copies, &v->counted);
    measure(v, false);
    bitmap_release(&v->counted);
}

void peer_show_has(struct peer_view *v, size_t leaf, int64_t now_ms)
{
    size_t piece = piece_of(v->pack, leaf);

    if (count(v, piece))
        v->others_ms = now_ms;
    else
        taken(v, piece);
}

/* Leaves of a piece are given in order: the last one ends it. */
void peer_show_given(struct peer_view *v, size_t leaf)
{
    struct peer_pack *k = v->pack;

    if (leaf % k->piece_leaves != k->piece_leaves - 1 && leaf + 1 != k->leaves)
        return;
    if (v->counted.bits == 0)
        return; /* it said nothing of what it has, and asked nevertheless */
    (void)count(v, piece_of(k, leaf));
    taken(v, piece_of(k, leaf));
}

/* One that is in our queue has more time, by what it usually takes; none if its link is stuck. */
static void expire(const struct peer *p, struct peer_pack *k, int64_t now_ms)
{
    double queue_ms = PEER_TAKE_GIFTS * p->give_ms;

    for (size_t i = k->nouts; i-- > 0;) {
        struct peer_out o = k->outs[i];
        int64_t old_ms = now_ms - o.since_ms;

        if (!peer_up_is_stuck(p, o.view->link, now_ms) &&
            (old_ms < PEER_TAKE_MS || (o.wanted && (double)old_ms < queue_ms)))
            continue;
        o.view->missed = true;
        uncount(o.view, o.piece);
        drop_out(k, i);
    }
}

/* It has lately got nothing but what it was shown: nobody else gives it anything. Where giving takes long,
 * the others take long, too. */
static bool is_alone(const struct peer *p, const struct peer_view *v, int64_t now_ms)
{
    return (double)(now_ms - v->others_ms) >= PEER_ALONE_MS + PEER_ALONE_GIFTS * p->give_ms;
}

/* Of the machines that may be shown something, the one with the fewest pieces, those that are on their
 * way counted. One that is far behind the others is slow, or late: it would pass on late what nobody
 * else has, and there may be more of them than are shown something at a time. The others give to
 * these, and if they do not, it is alone. So is one that did not take what it was shown last. */
static struct peer_view *least_complete(struct peer *p, const struct peer_pack *k, bool alone,
                                        int64_t now_ms)
{
    struct peer_view *best = NULL;
    size_t share = k->out_limit / (k->nviews + 1), ties = 0;
    size_t most = share > PEER_OUT ? share : PEER_OUT;
    size_t rest = k->nviews - k->nfull;
    size_t least = alone || rest <= PEER_OUT_ALL ? 0 : k->counted / rest / 2;

    for (size_t i = 0; i < k->nviews; i++) {
        struct peer_view *v = k->views[i];

        if (v->counted.bits == 0 || v->out >= most || bitmap_full(&v->counted) ||
            v->counted.set < least || (v->missed && !alone) ||
            peer_up_is_stuck(p, v->link, now_ms) ||
            (best != NULL && v->counted.set > best->counted.set) ||
            (alone && !is_alone(p, v, now_ms)))
            continue;
        ties = best == NULL || v->counted.set < best->counted.set ? 1 : ties + 1;
        if (ties == 1 || peer_random(p) % ties == 0)
            best = v;
    }
    return best;
}

/* The first of the rarest: in this order what belongs together arrives together, and can be unpacked
 * while the rest comes. Machines have different pieces nevertheless, for each is shown to one. */
static size_t rarest(struct peer *p, const struct peer_view *v)
{
    const struct peer_pack *k = v->pack;
    size_t words = k->copies.words, tail = peer_pieces(k) % 64;
    uint64_t *set = peer_scratch(p, words);

    for (size_t i = 0; i < words; i++)
        set[i] = ~bitmap_word(&v->counted, i);
    if (tail > 0)
        set[words - 1] &= ((uint64_t)1 << tail) - 1;
    rarity_keep_least(&k->copies, set);
    return peer_nth_bit(set, 0);
}

static bool show_one(struct peer *p, struct peer_pack *k, int64_t now_ms)
{
    struct peer_view *v;
    size_t piece, first, left;
    struct peer_queued *q;

    if (k->nouts >= k->out_limit)
        return false;
    v = least_complete(p, k, false, now_ms);
    piece = v == NULL ? 0 : rarest(p, v);
    if (v == NULL || rarity_of(&k->copies, piece) >= PEER_NODE_COPIES) {
        v = least_complete(p, k, true, now_ms); /* the others get it from each other */
        piece = v == NULL ? 0 : rarest(p, v);
    }
    if (v == NULL)
        return false;
    (void)count(v, piece);
    v->out++;
    VEC_GROW(k->outs, k->nouts, k->outs_cap);
    k->outs[k->nouts++] = (struct peer_out){ v, (uint32_t)piece, now_ms, false };
    k->figures.shown++;
    first = piece * k->piece_leaves;
    left = k->leaves - first;
    q = peer_push(p, PEER_HAVE, v);
    q->first = (uint32_t)first;
    q->count = (uint32_t)(left < k->piece_leaves ? left : k->piece_leaves);
    return true;
}

/* Somebody is on the way, and may yet be left alone by the others. */
bool peer_show_is_busy(const struct peer_pack *k)
{
    for (size_t i = 0; i < k->nviews; i++) {
        const struct peer_view *v = k->views[i];

        if (v->counted.bits > 0 && (v->out > 0 || !bitmap_full(&v->counted)))
            return true;
    }
    return false;
}

void peer_show_more(struct peer *p, struct peer_pack *k, int64_t now_ms)
{
    if (!k->shows)
        return;
    expire(p, k, now_ms);
    if (now_ms >= k->look_ms) {
        while (show_one(p, k, now_ms))
            ;
        k->look_ms = now_ms + PEER_SHOW_MS; /* nobody is worth it: all are looked at for that */
    }
    if (peer_show_is_busy(k))
        peer_check_soon(p, now_ms);
}

/* Has what is out been out for long enough to be asked for? */
static bool all_old(const struct peer_pack *k, int64_t now_ms)
{
    for (size_t i = 0; i < k->nouts; i++)
        if (now_ms - k->outs[i].since_ms < PEER_SHOW_MS)
            return false;
    return true;
}

void peer_show_idle(struct peer *p, int64_t now_ms)
{
    for (size_t i = 0; i < p->npacks; i++) {
        struct peer_pack *k = p->packs[i];

        if (!k->used || !k->shows || k->nouts == 0)
            continue;
        if (k->nouts < k->out_limit || k->out_limit >= PEER_OUT_MAX || !all_old(k, now_ms)) {
            peer_wake(p, now_ms + PEER_SHOW_MS);
            continue;
        }
        k->out_limit *= 2;
        peer_show_more(p, k, now_ms);
    }
}
