#include "swarm/seeding.h"

#include <stdlib.h>

#include "base/bitmap.h"
#include "base/mem.h"

struct peer {
    bool used;
    struct bitmap has; /* pieces that it has or was given */
    size_t out;        /* of its pieces below */
};

/* Shown and not given yet. */
struct out {
    int peer;
    size_t piece;
    int64_t since_ms;
};

struct seeding {
    size_t nleaves, piece_leaves, npieces;
    struct peer peers[SEEDING_PEERS_MAX];
    unsigned short *copies; /* by piece: peers that have it or were shown it */
    struct out out[SEEDING_OUT_MAX];
    size_t nout, limit, npeers;
    uint64_t random;
};

struct seeding *seeding_new(size_t nleaves, size_t piece_leaves, uint64_t seed)
{
    struct seeding *s = mem_alloc(sizeof(*s));

    s->nleaves = nleaves;
    s->piece_leaves = piece_leaves;
    s->npieces = (nleaves + piece_leaves - 1) / piece_leaves;
    s->copies = mem_calloc(s->npieces + 1, sizeof(*s->copies));
    s->limit = SEEDING_OUT_ALL;
    s->random = seed | 1;
    return s;
}

void seeding_free(struct seeding *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < SEEDING_PEERS_MAX; i++) {
        bitmap_release(&s->peers[i].has);
    }
    free(s->copies);
    free(s);
}

/* xorshift64*, as in picker.c. */
static uint64_t next_random(struct seeding *s)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return s->random * 2685821657736338717u;
}

int seeding_peer_add(struct seeding *s)
{
    for (int i = 0; i < SEEDING_PEERS_MAX; i++) {
        struct peer *p = &s->peers[i];

        if (p->used)
            continue;
        *p = (struct peer){ .used = true };
        s->npeers++;
        bitmap_init(&p->has, s->npieces);
        return i;
    }
    return -1;
}

static void drop_out(struct seeding *s, size_t i)
{
    s->peers[s->out[i].peer].out--;
    s->out[i] = s->out[--s->nout];
}

static bool find_out(const struct seeding *s, int peer, size_t piece, size_t *ret)
{
    for (size_t i = 0; i < s->nout; i++) {
        if (s->out[i].peer != peer || s->out[i].piece != piece)
            continue;
        *ret = i;
        return true;
    }
    return false;
}

void seeding_peer_remove(struct seeding *s, int peer)
{
    struct peer *p = &s->peers[peer];

    for (size_t i = s->nout; i-- > 0;) {
        if (s->out[i].peer != peer)
            continue;
        s->copies[s->out[i].piece]--;
        drop_out(s, i);
    }
    for (size_t i = 0; i < s->npieces; i++)
        if (bitmap_get(&p->has, i))
            s->copies[i]--;
    bitmap_release(&p->has);
    p->used = false;
    s->npeers--;
}

static void piece_is_there(struct seeding *s, int peer, size_t piece)
{
    struct peer *p = &s->peers[peer];
    size_t i;

    if (bitmap_get(&p->has, piece))
        return;
    bitmap_put(&p->has, piece, true);
    if (find_out(s, peer, piece, &i))
        drop_out(s, i); /* counted as a copy since it was shown */
    else
        s->copies[piece]++;
}

void seeding_has(struct seeding *s, int peer, size_t leaf)
{
    if (leaf < s->nleaves)
        piece_is_there(s, peer, leaf / s->piece_leaves);
}

/* Leaves of a piece are sent in order: the last one ends it. */
void seeding_given(struct seeding *s, int peer, size_t leaf)
{
    if (leaf < s->nleaves &&
        (leaf % s->piece_leaves == s->piece_leaves - 1 || leaf + 1 == s->nleaves))
        piece_is_there(s, peer, leaf / s->piece_leaves);
}

static void expire(struct seeding *s, int64_t now_ms)
{
    for (size_t i = s->nout; i-- > 0;) {
        if (now_ms - s->out[i].since_ms < SEEDING_TAKE_MS)
            continue;
        s->copies[s->out[i].piece]--;
        drop_out(s, i);
    }
}

/* Of the peers that may be shown something, the one with the fewest pieces, those that are on their
 * way counted. */
static int least_complete(struct seeding *s)
{
    int best = -1;
    size_t best_has = s->npieces, ties = 0;
    size_t share = s->npeers == 0 ? 0 : s->limit / s->npeers;
    size_t most = share > SEEDING_OUT ? share : SEEDING_OUT;

    for (int i = 0; i < SEEDING_PEERS_MAX; i++) {
        const struct peer *p = &s->peers[i];
        size_t has = p->has.set + p->out;

        if (!p->used || p->out >= most || has >= s->npieces || has > best_has)
            continue;
        ties = has < best_has ? 1 : ties + 1;
        if (has == best_has && next_random(s) % ties != 0)
            continue;
        best_has = has;
        best = i;
    }
    return best;
}

static size_t rarest_for(struct seeding *s, int peer)
{
    const struct peer *p = &s->peers[peer];
    size_t best = s->npieces, ties = 0, i;

    for (size_t piece = 0; piece < s->npieces; piece++) {
        if (bitmap_get(&p->has, piece) || find_out(s, peer, piece, &i))
            continue;
        if (best < s->npieces && s->copies[piece] > s->copies[best])
            continue;
        ties = best == s->npieces || s->copies[piece] < s->copies[best] ? 1 : ties + 1;
        if (ties == 1 || next_random(s) % ties == 0)
            best = piece;
    }
    return best;
}

bool seeding_show(struct seeding *s, int64_t now_ms, int *ret_peer, size_t *ret_first,
                  size_t *ret_count)
{
    size_t piece;
    int peer;

    expire(s, now_ms);
    peer = s->nout < s->limit ? least_complete(s) : -1;
    piece = peer < 0 ? s->npieces : rarest_for(s, peer);
    if (piece == s->npieces)
        return false;
    s->peers[peer].out++;
    s->copies[piece]++;
    s->out[s->nout++] = (struct out){ peer, piece, now_ms };
    *ret_peer = peer;
    *ret_first = piece * s->piece_leaves;
    *ret_count =
        s->nleaves - *ret_first < s->piece_leaves ? s->nleaves - *ret_first : s->piece_leaves;
    return true;
}

void seeding_starves(struct seeding *s)
{
    if (s->nout >= s->limit && s->limit < SEEDING_OUT_MAX)
        s->limit *= 2;
}
