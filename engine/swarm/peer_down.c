#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/peer_internal.h"

/* ---- what is left to ask for ---- */

static bool is_wanted(const struct peer_pack *k, size_t leaf)
{
    return !k->some || bitmap_get(&k->wanted, leaf);
}

static bool is_asked(const struct peer_asked *a, size_t leaf)
{
    return leaf >= a->first && leaf < a->first + (size_t)64 &&
           (a->left >> (leaf - a->first) & 1) != 0;
}

static unsigned count_asked(const struct peer_pack *k, size_t leaf)
{
    unsigned n = 0;

    for (size_t i = 0; i < k->nasked; i++)
        n += is_asked(&k->asked[i], leaf);
    return n;
}

void peer_down_set_todo(struct peer_pack *k, size_t leaf)
{
    uint64_t bit = (uint64_t)1 << leaf % 64, *word = &k->todo[leaf / 64];
    bool todo = is_wanted(k, leaf) && !bitmap_get(&k->have, leaf) &&
                !bitmap_get(&k->arriving, leaf) && count_asked(k, leaf) == 0;

    if (todo == ((*word & bit) != 0))
        return;
    *word ^= bit;
    k->ntodo = todo ? k->ntodo + 1 : k->ntodo - 1;
}

bool peer_down_can_ask(const struct peer_pack *k)
{
    return !k->resting && k->lacking > 0 && k->arriving.set < PEER_ARRIVING_BUSY;
}

/* ---- questions ---- */

static bool counts(const struct peer_view *v)
{
    return !v->to_node && !v->slow;
}

static void close_asked(struct peer_pack *k, size_t i)
{
    struct peer_asked a = k->asked[i];

    a.view->open--;
    a.view->link->open--;
    k->asks -= counts(a.view);
    k->asked[i] = k->asked[--k->nasked];
    for (uint32_t leaf = a.first; a.left != 0; leaf++, a.left >>= 1) {
        if ((a.left & 1) == 0)
            continue;
        peer_late_note(a.view, leaf);
        peer_down_set_todo(k, leaf);
    }
}

/* The leaf is no longer asked of the view; false: it was not. */
static bool answered(struct peer_view *v, size_t leaf, int64_t *ret_since_ms)
{
    struct peer_pack *k = v->pack;

    for (size_t i = 0; i < k->nasked; i++) {
        struct peer_asked *a = &k->asked[i];

        if (a->view != v || !is_asked(a, leaf))
            continue;
        *ret_since_ms = a->since_ms;
        a->left &= ~((uint64_t)1 << (leaf - a->first));
        if (a->left == 0)
            close_asked(k, i);
        return true;
    }
    return false;
}

static bool is_asked_of(const struct peer_view *v, size_t leaf)
{
    for (size_t i = 0; i < v->pack->nasked; i++)
        if (v->pack->asked[i].view == v && is_asked(&v->pack->asked[i], leaf))
            return true;
    return false;
}

static void open_asked(struct peer *p, struct peer_view *v, uint32_t first, uint32_t count,
                       int64_t now_ms)
{
    struct peer_pack *k = v->pack;
    uint64_t left = count >= 64 ? UINT64_MAX : ((uint64_t)1 << count) - 1;

    VEC_GROW(k->asked, k->nasked, k->asked_cap);
    k->asked[k->nasked++] = (struct peer_asked){ v, now_ms, first, left };
    for (uint32_t i = 0; i < count; i++)
        peer_down_set_todo(k, (size_t)first + i);
    v->open++;
    k->asks += counts(v);
    if (v->link->open++ == 0)
        v->link->moved_ms = now_ms;
    bucket_take(&p->down, (uint64_t)count * k->leaf_bytes, now_ms);
    k->down_pass += (double)count * k->leaf_bytes / k->weight;
    p->down_now = k->down_pass;
    peer_push_range(p, PEER_WANT, v, first, count);
    peer_check_soon(p, now_ms);
}

/* ---- choosing ---- */

size_t peer_nth_bit(const uint64_t *set, size_t n)
{
    for (size_t i = 0;; i++) {
        size_t here = (size_t)__builtin_popcountll(set[i]);
        uint64_t word = set[i];

        if (n >= here) {
            n -= here;
            continue;
        }
        while (n-- > 0)
            word &= word - 1;
        return i * 64 + (size_t)__builtin_ctzll(word);
    }
}

/* What of the leaf's piece can be asked for in one go: the run of useful leaves that it is in. */
static uint32_t widen(const struct peer_view *v, size_t *leaf)
{
    const struct peer_pack *k = v->pack;
    size_t at = *leaf % 64, first = at - at % k->piece_leaves, end = first + k->piece_leaves;
    uint64_t useful = bitmap_word(&v->has, *leaf / 64) & k->todo[*leaf / 64];
    size_t from = at, to = at + 1;

    while (from > first && (useful >> (from - 1) & 1) != 0)
        from--;
    while (to < end && (useful >> to & 1) != 0)
        to++;
    *leaf += from - at;
    return (uint32_t)(to - from);
}

/* The rarest of what is left to ask for and the other side has. */
static bool choose(struct peer *p, const struct peer_view *v, uint32_t *ret_first,
                   uint32_t *ret_count)
{
    const struct peer_pack *k = v->pack;
    uint64_t *set = peer_scratch(p, k->rarity.words), any = 0;
    size_t count = 0, leaf;

    if (k->ntodo == 0)
        return false;
    for (size_t i = 0; i < k->rarity.words; i++)
        any |= set[i] = bitmap_word(&v->has, i) & k->todo[i];
    if (any == 0)
        return false;
    rarity_keep_least(&k->rarity, set);
    for (size_t i = 0; i < k->rarity.words; i++)
        count += (size_t)__builtin_popcountll(set[i]);
    leaf = peer_nth_bit(set, (size_t)(peer_random(p) % count));
    *ret_count = widen(v, &leaf);
    *ret_first = (uint32_t)leaf;
    return true;
}

/* By the usual time of its link, or of all if that is longer, three times over. */
static bool is_overdue(const struct peer_asked *a, int64_t now_ms)
{
    double of_all, usual;

    if (now_ms - a->since_ms < PEER_STEAL_MIN_MS)
        return false;
    of_all = a->view->pack->answer_ms;
    usual = a->view->answer_ms > of_all ? a->view->answer_ms : of_all;
    return (double)(now_ms - a->since_ms) >= (usual > 0 ? 3 * usual : PEER_STEAL_FIRST_MS);
}

/* Everything is asked for, and it is not much. */
static bool is_end(const struct peer_pack *k)
{
    return k->ntodo == 0 && (k->lacking <= PEER_END || k->lacking <= k->leaves / PEER_END_SHARE);
}

/* May one more link be asked for the leaf? At the end one, and one more for each that is slow; else when all
 * before it are overdue. */
static bool may_double(const struct peer_pack *k, size_t leaf, int64_t now_ms)
{
    unsigned asked = 0, slow = 0;
    bool overdue = true;

    for (size_t i = 0; i < k->nasked; i++) {
        const struct peer_asked *a = &k->asked[i];

        if (!is_asked(a, leaf))
            continue;
        asked++;
        slow += a->view->slow;
        overdue = overdue && is_overdue(a, now_ms);
    }
    return asked < PEER_ASKED_MAX && (overdue || (is_end(k) && asked - slow < 2));
}

/* The first leaf of the question that the view can be asked for as well. */
static bool again_of(const struct peer_view *v, const struct peer_asked *a, int64_t now_ms,
                     uint32_t *ret_leaf)
{
    const struct peer_pack *k = v->pack;
    uint32_t leaf = a->first;

    for (uint64_t left = a->left; left != 0; left >>= 1, leaf++) {
        if ((left & 1) == 0 || !bitmap_get(&v->has, leaf) || bitmap_get(&k->arriving, leaf) ||
            is_asked_of(v, leaf) || !may_double(k, leaf, now_ms))
            continue;
        *ret_leaf = leaf;
        return true;
    }
    return false;
}

/* A leaf that others were asked for, the longest ago. */
static bool choose_again(const struct peer_view *v, int64_t now_ms, uint32_t *ret_leaf)
{
    const struct peer_pack *k = v->pack;
    const struct peer_asked *best = NULL;

    for (size_t i = 0; i < k->nasked; i++) {
        const struct peer_asked *a = &k->asked[i];

        if (a->view != v && (best == NULL || a->since_ms < best->since_ms) &&
            (is_end(k) || is_overdue(a, now_ms)) && again_of(v, a, now_ms, ret_leaf))
            best = a;
    }
    return best != NULL;
}

/* Who was asked for it is asked no more. */
static void take_away(struct peer *p, struct peer_pack *k, uint32_t leaf)
{
    for (size_t i = k->nasked; i-- > 0;) {
        struct peer_asked *a = &k->asked[i];

        if (!is_asked(a, leaf))
            continue;
        peer_push_range(p, PEER_CANCEL, a->view, leaf, 1);
        peer_late_note(a->view, leaf);
        a->left &= ~((uint64_t)1 << (leaf - a->first));
        if (a->left == 0)
            close_asked(k, i);
        k->figures.cancelled++;
    }
}

static bool may_take(struct peer *p, int64_t now_ms)
{
    int64_t wait_ms = bucket_wait_ms(&p->down, now_ms);

    if (wait_ms == 0)
        return true;
    p->down_waits = true;
    peer_wake(p, now_ms + wait_ms);
    return false;
}

/* ---- who is slow ---- */

static void set_slow(struct peer_view *v, bool slow)
{
    struct peer_pack *k = v->pack;

    if (v->slow == slow || v->to_node)
        return;
    v->slow = slow;
    k->nslow = slow ? k->nslow + 1 : k->nslow - 1;
    k->asks = slow ? k->asks - v->open : k->asks + v->open;
}

void peer_down_judge(struct peer_pack *k, int64_t now_ms)
{
    for (size_t i = 0; k->answer_ms > 0 && i < k->nasked; i++)
        if ((double)(now_ms - k->asked[i].since_ms) > PEER_SLOW * k->answer_ms)
            set_slow(k->asked[i].view, true);
}

/* ---- asking ---- */

/* While a question and its first byte are on their way, the downlink is to have something else to do: as
 * many pieces more as come in that time. */
static size_t asks_of(const struct peer_pack *k)
{
    double more = k->gap_ms > 0 ? PEER_LATENCY_MS / (k->gap_ms * (double)k->piece_leaves) : 0;

    return PEER_ASKS + (more < PEER_ASKS_MORE ? (size_t)more : PEER_ASKS_MORE);
}

/* The pieces that a machine has asked for share its downlink. If it asked every link for some, all of
 * them would send to the least complete machine at a time, in which nobody can pass on what is not
 * whole, and their uplinks would idle: so few are open over all links together, one each if there are
 * many. What a node shows is asked for beside these, and one piece of each machine that is slow: it takes
 * next to nothing of the downlink, and who has two slow neighbours of ten is not to be the last of all. */
static bool may_ask_link(const struct peer_view *v)
{
    const struct peer_pack *k = v->pack;
    size_t others = k->nviews - k->nslow, asks = asks_of(k);

    if (v->to_node)
        return v->open < v->window;
    if (v->slow)
        return v->open == 0;
    return k->asks < asks && v->open < (others >= asks ? 1 : asks / others);
}

static bool ask_one(struct peer *p, struct peer_view *v, int64_t now_ms)
{
    struct peer_pack *k = v->pack;
    uint32_t first, count = 1;

    if (!v->heard || !may_ask_link(v) || now_ms < v->link->quiet_ms || !peer_down_can_ask(k) ||
        !may_take(p, now_ms))
        return false;
    if (!choose(p, v, &first, &count)) {
        if (!choose_again(v, now_ms, &first))
            return false;
        if (is_end(k)) {
            k->figures.doubled++;
        } else {
            k->figures.stolen++;
            take_away(p, k, first);
        }
    }
    open_asked(p, v, first, count, now_ms);
    return true;
}

void peer_down_ask(struct peer *p, struct peer_view *v, int64_t now_ms)
{
    if (p->down.rate > 0) { /* who is next is not for one link to say */
        peer_down_ask_all(p, now_ms);
        return;
    }
    while (ask_one(p, v, now_ms))
        ;
}

/* Nodes first, which are at the head; then the machine that was asked longest ago: no link is asked for
 * everything. */
static bool ask_any(struct peer *p, struct peer_pack *k, int64_t now_ms)
{
    for (size_t i = 0; i < k->nviews; i++) {
        struct peer_view *v = k->views[i];

        if (!v->to_node && k->asks >= asks_of(k) && k->nslow == 0)
            return false;
        if (!ask_one(p, v, now_ms))
            continue;
        if (v->to_node)
            return true;
        memmove(k->views + i, k->views + i + 1, (k->nviews - i - 1) * sizeof(v));
        k->views[k->nviews - 1] = v;
        return true;
    }
    return false;
}

void peer_down_ask_pack(struct peer *p, struct peer_pack *k, int64_t now_ms)
{
    if (p->down.rate > 0) {
        peer_down_ask_all(p, now_ms);
        return;
    }
    while (peer_down_can_ask(k) && ask_any(p, k, now_ms))
        ;
}

/* Under a limit packs take turns by weight: the one that has had least for its weight comes first. */
void peer_down_ask_all(struct peer *p, int64_t now_ms)
{
    for (size_t i = 0; i < p->npacks; i++)
        p->packs[i]->passed = !p->packs[i]->used;
    for (;;) {
        struct peer_pack *best = NULL;

        for (size_t i = 0; i < p->npacks; i++)
            if (!p->packs[i]->passed && (best == NULL || p->packs[i]->down_pass < best->down_pass))
                best = p->packs[i];
        if (best == NULL)
            return;
        best->passed = !ask_any(p, best, now_ms);
    }
}

/* ---- what comes ---- */

/* A node that answers as fast as it ever did has nothing waiting: it may be asked for more. One that
 * takes its time has more requests than it can serve. Source: Brakmo and Peterson, TCP Vegas, 1995. */
static void learn(struct peer_view *v, int64_t waited_ms)
{
    struct peer_pack *k = v->pack;
    double waited = waited_ms < 1 ? 1 : (double)waited_ms;
    double queued;

    v->answer_ms = v->answer_ms > 0 ? v->answer_ms * 0.8 + waited * 0.2 : waited;
    k->answer_ms = k->answer_ms > 0 ? k->answer_ms * 0.95 + waited * 0.05 : waited;
    if (v->answer_ms > PEER_SLOW * k->answer_ms)
        set_slow(v, true);
    else if (v->answer_ms < PEER_SLOW * k->answer_ms / 2)
        set_slow(v, false);
    v->least_ms = v->least_ms > 0 && v->least_ms * 1.001 < waited ? v->least_ms * 1.001 : waited;
    queued = v->window * (1 - v->least_ms / waited);
    if (queued < 1 && v->window < PEER_NODE_ASKS_MAX)
        v->window++;
    else if (queued > 2 && v->window > PEER_NODE_ASKS)
        v->window--;
}

static void measure_gap(struct peer_pack *k, int64_t now_ms)
{
    int64_t gap_ms = now_ms - k->came_ms;

    if (gap_ms > PEER_GAP_MAX_MS)
        gap_ms = PEER_GAP_MAX_MS; /* a pause says little about what comes when it is over */
    if (k->came_ms > 0)
        k->gap_ms = k->gap_ms > 0 ? k->gap_ms * 0.95 + (double)gap_ms * 0.05 : (double)gap_ms;
    k->came_ms = now_ms;
}

/* Who sends what it is asked for is alive, also if it was on its way when the question was taken back a
 * moment ago: by CANCEL, by time or with its pack. */
static void note_answer(struct peer_view *v, uint32_t leaf, bool awaited, int64_t now_ms)
{
    struct peer_link *l = v->link;

    if (!awaited && !peer_late_is_answer(l, v->pack, leaf))
        return;
    l->moved_ms = now_ms;
    l->quiet_ms = 0;
    measure_gap(v->pack, now_ms);
}

bool peer_down_takes(struct peer *p, struct peer_view *v, uint32_t leaf, int64_t now_ms)
{
    struct peer_pack *k = v->pack;
    int64_t since_ms;
    bool awaited, takes;

    if (leaf >= k->leaves) {
        peer_accuse(p, v, "a leaf number that its pack does not have");
        return false;
    }
    takes = !bitmap_get(&k->have, leaf) && !bitmap_get(&k->arriving, leaf);
    if (!takes)
        k->figures.useless++;
    awaited = is_asked_of(v, leaf);
    note_answer(v, leaf, awaited, now_ms);
    if (!awaited && !peer_late_may_come(p, v->link, v))
        return false;
    takes = takes && !k->resting && k->arriving.set < PEER_ARRIVING_MAX;
    if (takes)
        bitmap_put(&k->arriving, leaf, true);
    if (awaited && answered(v, leaf, &since_ms))
        learn(v, now_ms - since_ms);
    peer_down_set_todo(k, leaf);
    peer_down_ask_pack(p, k, now_ms);
    return takes;
}

void peer_down_verified(struct peer *p, struct peer_pack *k, struct peer_view *v, uint32_t leaf,
                        int64_t now_ms)
{
    bitmap_put(&k->arriving, leaf, false);
    if (!bitmap_put(&k->have, leaf, true))
        return;
    k->figures.taken++;
    if (v != NULL && v->to_node)
        k->figures.taken_from_node++;
    if (is_wanted(k, leaf))
        k->lacking--;
    take_away(p, k, leaf); /* who else was asked for it need not send it */
    peer_down_set_todo(k, leaf);
    VEC_GROW(k->order, k->norder, k->order_cap);
    k->order[k->norder++] = leaf;
    peer_tell_new(p, k, now_ms);
    if (k->arriving.set == PEER_ARRIVING_BUSY - 1)
        peer_down_ask_pack(p, k, now_ms);
}

void peer_down_bad(struct peer *p, struct peer_pack *k, struct peer_view *v, uint32_t leaf,
                   int64_t now_ms)
{
    bitmap_put(&k->arriving, leaf, false);
    k->figures.bad++;
    if (v != NULL)
        peer_down_has(v, leaf, false);
    peer_down_set_todo(k, leaf);
    peer_down_ask_pack(p, k, now_ms);
}

void peer_down_assume(struct peer_pack *k, int64_t now_ms)
{
    if (!k->some || k->resting || k->lacking == 0 || k->nasked > 0 || k->arriving.set > 0) {
        k->stuck_ms = 0;
        return;
    }
    if (k->stuck_ms == 0)
        k->stuck_ms = now_ms;
    if (now_ms - k->stuck_ms < PEER_ASSUME_MS)
        return;
    for (size_t n = 0; n < k->nviews; n++) {
        struct peer_view *v = k->views[n];

        for (size_t i = 0; v->heard && v->to_node && i < k->leaves; i++)
            if ((k->todo[i / 64] >> (i % 64) & 1) != 0)
                peer_down_has(v, i, true);
    }
    k->stuck_ms = 0;
}

void peer_down_has(struct peer_view *v, size_t leaf, bool has)
{
    if (!bitmap_put(&v->has, leaf, has))
        return;
    if (has)
        rarity_add(&v->pack->rarity, leaf);
    else
        rarity_remove(&v->pack->rarity, leaf);
}

void peer_down_refused(struct peer *p, struct peer_view *v, const struct peer_event *e,
                       int64_t now_ms)
{
    struct peer_pack *k = v->pack;
    /* Nobody was asked for more at a time, whatever the message says. */
    size_t count = e->count < PIECE_LEAVES_MAX ? e->count : PIECE_LEAVES_MAX;

    k->figures.refused++;
    for (size_t leaf = e->first; leaf < e->first + count && leaf < k->leaves; leaf++) {
        int64_t since_ms;

        (void)answered(v, leaf, &since_ms);
        if (e->code != ERR_AGAIN)
            peer_down_has(v, leaf, false);
        peer_down_set_todo(k, leaf);
    }
    if (e->code == ERR_AGAIN)
        v->link->quiet_ms = now_ms + PEER_BACK_MS;
    peer_check_soon(p, now_ms);
    peer_down_ask_pack(p, k, now_ms);
}

void peer_down_drop(struct peer *p, struct peer_view *v)
{
    struct peer_pack *k = v->pack;

    (void)p;
    for (size_t i = k->nasked; i-- > 0;)
        if (k->asked[i].view == v)
            close_asked(k, i);
}

void peer_down_expire(struct peer *p, struct peer_link *l, int64_t now_ms)
{
    if (l->open == 0 || now_ms - l->moved_ms < PEER_SILENT_MS)
        return;
    l->quiet_ms = now_ms + PEER_SILENT_MS;
    for (size_t i = 0; i < l->nviews; i++)
        peer_down_drop(p, l->views[i]);
}
