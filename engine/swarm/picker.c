#include "swarm/picker.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* An open question: leaves of a piece asked of a peer. The second and further of one piece steal it. */
struct asked {
    int64_t since_ms;
    size_t piece, first, count; /* the leaves asked for lie in this piece */
    int peer;
};

struct peer {
    bool used;
    struct bitmap has; /* leaves */
    size_t asked;
    int64_t moved_ms;   /* when it last brought something, or was asked with nothing open */
    int64_t snubbed_ms; /* until then it is asked nothing */
};

struct picker {
    size_t piece_leaves, npieces;
    struct bitmap have;
    struct bitmap wanted;   /* if `some` */
    bool some;              /* not all leaves are wanted */
    unsigned short *rarity; /* per piece: peers that have its first leaf */
    size_t *missing;        /* per piece: leaves that we want and lack */
    size_t lacking;         /* in all pieces */
    unsigned char *open;    /* per piece: how many peers are asked */
    struct peer peers[PICKER_PEERS_MAX];
    struct asked *asked;
    size_t nasked, asked_cap;
    double piece_ms; /* moving average of the time a piece takes */
    uint64_t random;
};

size_t picker_piece_leaves(size_t nleaves)
{
    size_t leaves = 1;

    while (leaves < PIECE_LEAVES_MAX && nleaves / (leaves * 2) >= PIECES_AIM)
        leaves *= 2;
    return leaves;
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016. */
static uint64_t next_random(struct picker *p)
{
    p->random ^= p->random >> 12;
    p->random ^= p->random << 25;
    p->random ^= p->random >> 27;
    return p->random * 2685821657736338717u;
}

static size_t piece_first(const struct picker *p, size_t piece)
{
    return piece * p->piece_leaves;
}

static size_t piece_count(const struct picker *p, size_t piece)
{
    size_t left = p->have.bits - piece_first(p, piece);

    return left < p->piece_leaves ? left : p->piece_leaves;
}

struct picker *picker_new(size_t nleaves, uint64_t seed)
{
    struct picker *p = mem_alloc(sizeof(*p));

    p->piece_leaves = picker_piece_leaves(nleaves);
    p->npieces = (nleaves + p->piece_leaves - 1) / p->piece_leaves;
    bitmap_init(&p->have, nleaves);
    p->rarity = mem_calloc(p->npieces, sizeof(*p->rarity));
    p->missing = mem_calloc(p->npieces, sizeof(*p->missing));
    p->open = mem_calloc(p->npieces, 1);
    for (size_t i = 0; i < p->npieces; i++)
        p->missing[i] = piece_count(p, i);
    p->lacking = nleaves;
    p->piece_ms = 200;
    p->random = seed | 1;
    return p;
}

void picker_free(struct picker *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < PICKER_PEERS_MAX; i++)
        if (p->peers[i].used)
            bitmap_release(&p->peers[i].has);
    bitmap_release(&p->have);
    bitmap_release(&p->wanted);
    free(p->rarity);
    free(p->missing);
    free(p->open);
    free(p->asked);
    free(p);
}

const struct bitmap *picker_have(const struct picker *p)
{
    return &p->have;
}

bool picker_wants(const struct picker *p, size_t leaf)
{
    return !p->some || bitmap_get(&p->wanted, leaf);
}

void picker_want(struct picker *p, const struct bitmap *leaves)
{
    bitmap_release(&p->wanted);
    p->some = leaves != NULL;
    if (p->some)
        bitmap_init(&p->wanted, p->have.bits);
    p->lacking = 0;
    for (size_t i = 0; i < p->npieces; i++)
        p->missing[i] = 0;
    for (size_t i = 0; i < p->have.bits; i++) {
        if (p->some && i < leaves->bits && bitmap_get(leaves, i))
            bitmap_put(&p->wanted, i, true);
        if (!picker_wants(p, i) || bitmap_get(&p->have, i))
            continue;
        p->missing[i / p->piece_leaves]++;
        p->lacking++;
    }
}

bool picker_done(const struct picker *p)
{
    return p->lacking == 0;
}

static bool is_useful(const struct picker *p, const struct peer *peer, size_t leaf)
{
    return !bitmap_get(&p->have, leaf) && picker_wants(p, leaf) && bitmap_get(&peer->has, leaf);
}

int picker_peer_add(struct picker *p)
{
    for (int i = 0; i < PICKER_PEERS_MAX; i++) {
        if (p->peers[i].used)
            continue;
        p->peers[i] = (struct peer){ .used = true };
        bitmap_init(&p->peers[i].has, p->have.bits);
        return i;
    }
    return -1;
}

static void close_asked(struct picker *p, size_t i)
{
    struct asked *a = &p->asked[i];

    p->open[a->piece]--;
    p->peers[a->peer].asked--;
    *a = p->asked[--p->nasked];
}

/* A peer counts for a piece's rarity when it has the piece's first leaf: peers fetch whole pieces.
 */
static void count_rarity(struct picker *p, const struct bitmap *has, int sign)
{
    for (size_t i = 0; i < p->npieces; i++)
        if (bitmap_get(has, piece_first(p, i)))
            p->rarity[i] = (unsigned short)(p->rarity[i] + sign);
}

void picker_peer_remove(struct picker *p, int peer)
{
    struct peer *from = &p->peers[peer];

    for (size_t i = p->nasked; i-- > 0;)
        if (p->asked[i].peer == peer)
            close_asked(p, i);
    count_rarity(p, &from->has, -1);
    bitmap_release(&from->has);
    from->used = false;
}

bool picker_peer_bitmap(struct picker *p, int peer, const void *bytes, size_t len)
{
    struct bitmap fresh;

    bitmap_init(&fresh, p->have.bits);
    if (!bitmap_load(&fresh, bytes, len)) {
        bitmap_release(&fresh);
        return false;
    }
    count_rarity(p, &p->peers[peer].has, -1);
    bitmap_release(&p->peers[peer].has);
    p->peers[peer].has = fresh;
    count_rarity(p, &fresh, 1);
    return true;
}

bool picker_peer_have(struct picker *p, int peer, size_t leaf)
{
    if (leaf >= p->have.bits)
        return false;
    if (bitmap_put(&p->peers[peer].has, leaf, true) && leaf % p->piece_leaves == 0)
        p->rarity[leaf / p->piece_leaves]++;
    return true;
}

void picker_peer_lacks(struct picker *p, int peer, size_t leaf)
{
    if (bitmap_put(&p->peers[peer].has, leaf, false) && leaf % p->piece_leaves == 0)
        p->rarity[leaf / p->piece_leaves]--;
}

const struct bitmap *picker_peer_has(const struct picker *p, int peer)
{
    return &p->peers[peer].has;
}

size_t picker_asked(const struct picker *p, int peer)
{
    return p->peers[peer].asked;
}

/* The part of a piece that we want and lack and the peer has, as one range from the first such leaf. */
static bool useful_range(const struct picker *p, const struct peer *peer, size_t piece,
                         size_t *ret_first, size_t *ret_count)
{
    size_t i = piece_first(p, piece), end = i + piece_count(p, piece);

    while (i < end && !is_useful(p, peer, i))
        i++;
    if (i == end)
        return false;
    *ret_first = i;
    while (i < end && is_useful(p, peer, i))
        i++;
    *ret_count = i - *ret_first;
    return true;
}

static bool is_asked_of(const struct picker *p, size_t piece, int peer)
{
    for (size_t i = 0; i < p->nasked; i++)
        if (p->asked[i].piece == piece && p->asked[i].peer == peer)
            return true;
    return false;
}

static void mark_asked(struct picker *p, const struct asked *a)
{
    VEC_GROW(p->asked, p->nasked, p->asked_cap);
    p->asked[p->nasked++] = *a;
    p->open[a->piece]++;
    if (p->peers[a->peer].asked++ == 0)
        p->peers[a->peer].moved_ms = a->since_ms;
}

static size_t rarest(struct picker *p, const struct peer *from)
{
    size_t best = p->npieces, first, count, ties = 0;

    for (size_t i = 0; i < p->npieces; i++) {
        if (p->missing[i] == 0 || p->open[i] > 0)
            continue;
        if (best < p->npieces && p->rarity[i] > p->rarity[best])
            continue;
        if (!useful_range(p, from, i, &first, &count))
            continue;
        if (best == p->npieces || p->rarity[i] < p->rarity[best]) {
            best = i;
            ties = 1;
        } else if (next_random(p) % ++ties == 0) {
            best = i;
        }
    }
    return best;
}

/* Is everybody who was asked for the piece overdue? */
static bool all_overdue(const struct picker *p, size_t piece, int64_t now_ms)
{
    double overdue = p->piece_ms * 3 < STEAL_MIN_MS ? STEAL_MIN_MS : p->piece_ms * 3;

    for (size_t i = 0; i < p->nasked; i++)
        if (p->asked[i].piece == piece && (double)(now_ms - p->asked[i].since_ms) < overdue)
            return false;
    return true;
}

/* The piece that has been open longest with other peers, if all of them are overdue. */
static size_t steal(const struct picker *p, int peer, int64_t now_ms)
{
    const struct asked *best = NULL;
    size_t first, count;

    for (size_t i = 0; i < p->nasked; i++) {
        const struct asked *a = &p->asked[i];

        if (best != NULL && a->since_ms >= best->since_ms)
            continue;
        if (p->open[a->piece] < PICKER_ASKED_MAX && !is_asked_of(p, a->piece, peer) &&
            useful_range(p, &p->peers[peer], a->piece, &first, &count) &&
            all_overdue(p, a->piece, now_ms))
            best = a;
    }
    return best == NULL ? p->npieces : best->piece;
}

bool picker_choose(struct picker *p, int peer, int64_t now_ms, size_t *ret_first, size_t *ret_count)
{
    struct peer *from = &p->peers[peer];
    size_t piece;

    if (now_ms < from->snubbed_ms)
        return false;
    piece = rarest(p, from);
    if (piece == p->npieces)
        piece = steal(p, peer, now_ms);
    if (piece == p->npieces || !useful_range(p, from, piece, ret_first, ret_count))
        return false;
    mark_asked(p, &(struct asked){ now_ms, piece, *ret_first, *ret_count, peer });
    return true;
}

static bool range_is_here(const struct picker *p, const struct asked *a)
{
    for (size_t i = 0; i < a->count; i++)
        if (!bitmap_get(&p->have, a->first + i))
            return false;
    return true;
}

/* Closes the questions that are answered now, whoever answered them. */
static void close_answered(struct picker *p, size_t piece, int peer, int64_t now_ms)
{
    for (size_t i = p->nasked; i-- > 0;) {
        struct asked *a = &p->asked[i];

        if (a->piece != piece || !range_is_here(p, a))
            continue;
        if (a->peer == peer)
            p->piece_ms = p->piece_ms * 0.8 + (double)(now_ms - a->since_ms) * 0.2;
        close_asked(p, i);
    }
}

bool picker_got(struct picker *p, int peer, size_t leaf, int64_t now_ms)
{
    size_t piece = leaf / p->piece_leaves;

    if (!bitmap_put(&p->have, leaf, true))
        return false;
    if (picker_wants(p, leaf)) {
        p->missing[piece]--;
        p->lacking--;
    }
    if (peer >= 0) {
        p->peers[peer].moved_ms = now_ms;
        p->peers[peer].snubbed_ms = 0;
    }
    close_answered(p, piece, peer, now_ms);
    return true;
}

void picker_refused(struct picker *p, int peer, size_t first, size_t count)
{
    for (size_t i = p->nasked; i-- > 0;) {
        const struct asked *a = &p->asked[i];

        if (a->peer == peer && first < a->first + a->count && first + count > a->first)
            close_asked(p, i);
    }
}

void picker_expire(struct picker *p, int64_t now_ms)
{
    for (int i = 0; i < PICKER_PEERS_MAX; i++) {
        struct peer *peer = &p->peers[i];

        if (!peer->used || peer->asked == 0 || now_ms - peer->moved_ms < PICKER_SILENT_MS)
            continue;
        for (size_t k = p->nasked; k-- > 0;)
            if (p->asked[k].peer == i)
                close_asked(p, k);
        peer->snubbed_ms = now_ms + PICKER_SILENT_MS;
    }
}
