/* The happy path of a machine that fetches: pack open -> BITMAP to all; their BITMAPs -> WANT, the
 * rarest first; LEAF -> takes -> VERIFIED -> HAVE to all; WANT of others -> GIVE, the least complete
 * first -> SENT -> the next. Ways to fail: REFUSE, a bad leaf, a link that closes or is silent free what
 * was asked; a link that dawdles loses it to a second one. */
#include "swarm/peer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/peer_internal.h"

enum { PIECES_AIM = 1024 }; /* piece size is the pack's size over this, as a power of two */

size_t peer_piece_leaves(size_t leaves)
{
    size_t piece = 1;

    while (piece < PIECE_LEAVES_MAX && leaves / (piece * 2) >= PIECES_AIM)
        piece *= 2;
    return piece;
}

struct peer *peer_new(const struct peer_options *o)
{
    struct peer *p = mem_alloc(sizeof(*p));

    p->o = *o;
    p->random = o->seed | 1;
    p->due_ms = p->stuck_ms = -1;
    list_init(&p->serving);
    return p;
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016. */
uint64_t peer_random(struct peer *p)
{
    p->random ^= p->random >> 12;
    p->random ^= p->random << 25;
    p->random ^= p->random >> 27;
    return p->random * 2685821657736338717u >> 16; /* the low bits are weak */
}

void peer_wake(struct peer *p, int64_t at_ms)
{
    if (p->due_ms < 0 || at_ms < p->due_ms)
        p->due_ms = at_ms;
}

void peer_check_soon(struct peer *p, int64_t now_ms)
{
    if (p->check_ms == 0)
        peer_wake(p, p->check_ms = now_ms + PEER_CHECK_MS);
}

uint64_t *peer_scratch(struct peer *p, size_t words)
{
    if (p->scratch_words < words) {
        free(p->scratch);
        p->scratch = mem_calloc(words, sizeof(*p->scratch));
        p->scratch_words = words;
    }
    return p->scratch;
}

enum { NOT_ONE = -2 /* a number that no action has */ };

/* Actions that were not taken name what is gone. */
static void purge(struct peer *p, int link, int pack)
{
    for (size_t i = p->action_at; i < p->nactions; i++)
        if (p->actions[i].link == link || p->actions[i].pack == pack)
            p->actions[i].kind = PEER_ACTION_NONE;
}

/* ---- links ---- */

int peer_link_open(struct peer *p, bool to_node, int64_t now_ms)
{
    struct peer_link *l;
    size_t i = p->free_link;

    while (i < p->nlinks && p->links[i]->used)
        i++;
    p->free_link = i + 1;
    if (i == p->nlinks) {
        VEC_GROW(p->links, p->nlinks, p->links_cap);
        p->links[p->nlinks++] = mem_alloc(sizeof(*p->links[i]));
    }
    l = p->links[i];
    *l = (struct peer_link){ .number = (int)i,
                             .used = true,
                             .to_node = to_node,
                             .views = l->views,
                             .views_cap = l->views_cap,
                             .moved_ms = now_ms };
    list_init(&l->serving);
    for (size_t k = 0; k < p->npacks && !p->o.is_node; k++)
        if (p->packs[k]->used)
            peer_tell_bitmap(p, peer_view_get(p, l, p->packs[k]));
    return l->number;
}

static struct peer_link *link_at(const struct peer *p, int link)
{
    assert(link >= 0 && (size_t)link < p->nlinks && p->links[link]->used);
    return p->links[link];
}

static struct peer_pack *pack_at(const struct peer *p, int pack)
{
    assert(pack >= 0 && (size_t)pack < p->npacks && p->packs[pack]->used);
    return p->packs[pack];
}

static void close_view(struct peer *p, struct peer_view *v, int64_t now_ms)
{
    struct peer_pack *k = v->pack;

    peer_view_free(p, v);
    peer_down_ask_pack(p, k, now_ms);
    peer_show_more(p, k, now_ms);
}

void peer_link_close(struct peer *p, int link, int64_t now_ms)
{
    struct peer_link *l = link_at(p, link);

    l->used = false;
    purge(p, link, NOT_ONE);
    p->nserving -= l->giving > 0;
    list_remove(&l->serving);
    if ((size_t)link < p->free_link)
        p->free_link = (size_t)link;
    while (l->nviews > 0)
        close_view(p, l->views[l->nviews - 1], now_ms);
    (void)peer_up_give(p, now_ms);
}

/* ---- packs ---- */

static void count_lacking(struct peer_pack *k)
{
    k->lacking = 0;
    for (size_t i = 0; i < k->leaves; i++) {
        k->lacking += (!k->some || bitmap_get(&k->wanted, i)) && !bitmap_get(&k->have, i);
        peer_down_set_todo(k, i);
    }
}

static void set_wanted(struct peer_pack *k, const struct bitmap *leaves)
{
    bitmap_release(&k->wanted);
    k->some = leaves != NULL;
    if (!k->some)
        return;
    bitmap_init(&k->wanted, k->leaves);
    for (size_t i = 0; i < k->leaves; i++)
        bitmap_put(&k->wanted, i, i < leaves->bits && bitmap_get(leaves, i));
}

static void set_have(struct peer_pack *k, const struct peer_pack_options *o)
{
    bitmap_init(&k->have, k->leaves);
    bitmap_init(&k->arriving, k->leaves);
    for (size_t i = 0; i < k->leaves; i++)
        bitmap_put(&k->have, i, o->complete || (o->have != NULL && bitmap_get(o->have, i)));
}

static struct peer_pack *pack_slot(struct peer *p)
{
    size_t i = 0;

    while (i < p->npacks && p->packs[i]->used)
        i++;
    if (i == p->npacks) {
        VEC_GROW(p->packs, p->npacks, p->packs_cap);
        p->packs[p->npacks++] = mem_alloc(sizeof(*p->packs[i]));
    }
    *p->packs[i] = (struct peer_pack){ .number = (int)i, .used = true };
    return p->packs[i];
}

static void check_done(struct peer *p, struct peer_pack *k, int64_t now_ms)
{
    if (k->resting || k->said_done || k->lacking > 0)
        return;
    k->said_done = true;
    k->figures.done_ms = now_ms;
    VEC_GROW(p->actions, p->nactions, p->actions_cap);
    p->actions[p->nactions++] =
        (struct peer_queued){ .kind = PEER_DONE, .link = -1, .pack = k->number };
}

size_t peer_pieces(const struct peer_pack *k)
{
    return (k->leaves + k->piece_leaves - 1) / k->piece_leaves;
}

int peer_pack_open(struct peer *p, const struct peer_pack_options *o, int64_t now_ms)
{
    struct peer_pack *k = pack_slot(p);

    k->leaves = o->leaves;
    k->piece_leaves = o->piece_leaves > 0 ? o->piece_leaves : peer_piece_leaves(o->leaves);
    k->leaf_bytes = o->leaf_bytes > 0 ? o->leaf_bytes : LEAF_BYTES;
    k->up_pass = p->up_now;
    k->down_pass = p->down_now;
    k->resting = o->complete || o->resting;
    k->shows = p->o.is_node && o->complete;
    k->out_limit = PEER_OUT_ALL;
    k->figures.begun_ms = now_ms;
    peer_pack_weigh(p, k->number, o->weight);
    list_init(&k->wanting);
    rarity_init(&k->rarity, k->leaves);
    if (k->shows)
        rarity_init(&k->copies, peer_pieces(k));
    k->todo = mem_calloc(k->rarity.words + 1, sizeof(*k->todo));
    set_have(k, o);
    set_wanted(k, o->wanted);
    count_lacking(k);
    for (size_t i = 0; i < p->nlinks && !p->o.is_node; i++)
        if (p->links[i]->used)
            peer_tell_bitmap(p, peer_view_get(p, p->links[i], k));
    peer_up_set_most(p);
    if (k->some)
        peer_check_soon(p, now_ms);
    check_done(p, k, now_ms);
    return k->number;
}

static void pack_release(struct peer *p, struct peer_pack *k)
{
    while (k->nviews > 0)
        peer_view_free(p, k->views[k->nviews - 1]);
    bitmap_release(&k->have);
    bitmap_release(&k->wanted);
    bitmap_release(&k->arriving);
    rarity_release(&k->rarity);
    rarity_release(&k->copies);
    free(k->views);
    free(k->todo);
    free(k->order);
    free(k->asked);
    free(k->outs);
    k->used = false;
}

void peer_pack_close(struct peer *p, int pack, int64_t now_ms)
{
    struct peer_pack *k = pack_at(p, pack);

    purge(p, NOT_ONE, pack);
    pack_release(p, k);
    peer_up_set_most(p);
    (void)peer_up_give(p, now_ms);
}

void peer_free(struct peer *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->npacks; i++) {
        if (p->packs[i]->used)
            pack_release(p, p->packs[i]);
        free(p->packs[i]);
    }
    for (size_t i = 0; i < p->nlinks; i++) {
        free(p->links[i]->views);
        free(p->links[i]);
    }
    free(p->links);
    free(p->packs);
    free(p->actions);
    free(p->leaves);
    free(p->zeros);
    free(p->scratch);
    free(p);
}

void peer_pack_want(struct peer *p, int pack, const struct bitmap *leaves, int64_t now_ms)
{
    struct peer_pack *k = pack_at(p, pack);

    set_wanted(k, leaves);
    count_lacking(k);
    k->resting = k->said_done = false;
    k->figures.begun_ms = now_ms;
    if (k->down_pass < p->down_now)
        k->down_pass = p->down_now; /* turns that it did not need are not saved up */
    peer_down_ask_pack(p, k, now_ms);
    if (k->some)
        peer_check_soon(p, now_ms);
    check_done(p, k, now_ms);
}

void peer_pack_rest(struct peer *p, int pack)
{
    pack_at(p, pack)->resting = true;
}

void peer_pack_weigh(struct peer *p, int pack, unsigned weight)
{
    pack_at(p, pack)->weight =
        weight == 0 ? 1 : (weight > PEER_WEIGHT_MAX ? PEER_WEIGHT_MAX : weight);
}

const struct bitmap *peer_pack_has(const struct peer *p, int pack)
{
    return &pack_at(p, pack)->have;
}

bool peer_pack_wants(const struct peer *p, int pack, size_t leaf)
{
    const struct peer_pack *k = pack_at(p, pack);

    return leaf < k->leaves && (!k->some || bitmap_get(&k->wanted, leaf));
}

bool peer_pack_done(const struct peer *p, int pack)
{
    return pack_at(p, pack)->lacking == 0;
}

const struct bitmap *peer_link_has(const struct peer *p, int link, int pack)
{
    const struct peer_view *v = peer_view_find(link_at(p, link), pack_at(p, pack));

    return v == NULL || !v->heard ? NULL : &v->has;
}

bool peer_link_told(const struct peer *p, int link, int pack)
{
    const struct peer_view *v = peer_view_find(link_at(p, link), pack_at(p, pack));

    return v != NULL && v->told;
}

struct peer_figures peer_pack_figures(const struct peer *p, int pack)
{
    return pack_at(p, pack)->figures;
}

/* ---- what happens ---- */

static void on_bitmap(struct peer *p, struct peer_link *l, struct peer_pack *k,
                      const struct bytes *bitmap, int64_t now_ms)
{
    struct peer_view *v = peer_view_find(l, k);
    bool first = v == NULL || !v->heard;

    if (bitmap->len == 0 && k->leaves > 0) {
        if (v != NULL)
            close_view(p, v, now_ms);
        return;
    }
    v = peer_view_get(p, l, k);
    rarity_remove_all(&k->rarity, &v->has);
    if (!bitmap_load(&v->has, bitmap->data, bitmap->len)) {
        rarity_add_all(&k->rarity, &v->has);
        peer_accuse(p, v, "a malformed bitmap");
        return;
    }
    rarity_add_all(&k->rarity, &v->has);
    v->heard = true;
    if (first || !v->told)
        peer_tell_bitmap(p, v);
    if (k->shows)
        peer_show_begin(v, now_ms);
    peer_show_more(p, k, now_ms);
    peer_down_ask(p, v, now_ms);
}

static void on_have(struct peer *p, struct peer_view *v, const struct peer_event *e, int64_t now_ms)
{
    for (uint32_t i = 0; i < e->count; i++) {
        uint32_t leaf = e->leaves[i].index;

        if (leaf >= v->pack->leaves) {
            peer_accuse(p, v, "a leaf number that its pack does not have");
            return;
        }
        peer_down_has(v, leaf, true);
        if (v->nwants > 0)
            peer_up_cancel(p, v, leaf, 1);
        if (v->counted.bits > 0)
            peer_show_has(v, leaf, now_ms);
    }
    peer_show_more(p, v->pack, now_ms);
    peer_down_ask(p, v, now_ms);
}

/* What was to be said was not: what we have is told anew, a question is free again. */
static void on_unsent(struct peer *p, struct peer_view *v, const struct peer_event *e,
                      int64_t now_ms)
{
    if (e->what == PEER_WANT)
        peer_down_refused(
            p, v, &(struct peer_event){ .first = e->first, .count = e->count, .code = ERR_AGAIN },
            now_ms);
    else if (e->what == PEER_BITMAP || e->what == PEER_HAVE)
        v->told = false;
    peer_check_soon(p, now_ms);
}

/* Our copy is damaged: we do not have it any more. */
static void on_unread(struct peer *p, struct peer_view *v, uint32_t leaf, int64_t now_ms)
{
    struct peer_pack *k = v->pack;
    struct peer_queued *q = peer_push(p, PEER_REFUSE, v);

    q->first = leaf;
    q->count = 1;
    q->code = ERR_CORRUPT;
    if (!bitmap_put(&k->have, leaf, false))
        return;
    k->lacking += !k->some || bitmap_get(&k->wanted, leaf);
    peer_down_set_todo(k, leaf);
    peer_check_soon(p, now_ms);
}

static void retell(struct peer *p, struct peer_pack *k)
{
    for (size_t i = 0; i < k->nviews; i++) {
        struct peer_view *v = k->views[i];

        if (!v->told && (v->heard || !p->o.is_node))
            peer_tell_bitmap(p, v);
    }
}

static bool is_busy(const struct peer *p)
{
    if (!list_empty(&p->serving))
        return true;
    for (size_t i = 0; i < p->npacks; i++) {
        const struct peer_pack *k = p->packs[i];

        if (k->used && (peer_down_can_ask(k) || (k->shows && peer_show_is_busy(k))))
            return true;
    }
    return false;
}

static void check(struct peer *p, int64_t now_ms)
{
    for (size_t i = 0; i < p->nlinks; i++)
        if (p->links[i]->used)
            peer_down_expire(p, p->links[i], now_ms);
    for (size_t i = 0; i < p->npacks; i++) {
        struct peer_pack *k = p->packs[i];

        if (!k->used)
            continue;
        retell(p, k);
        peer_down_assume(k, now_ms);
        peer_down_judge(k, now_ms);
        peer_down_ask_pack(p, k, now_ms);
        peer_show_more(p, k, now_ms);
    }
    p->check_ms = 0;
    if (is_busy(p))
        peer_check_soon(p, now_ms);
}

static void on_tick(struct peer *p, int64_t now_ms)
{
    p->due_ms = -1;
    for (size_t i = 0; i < p->npacks; i++)
        if (p->packs[i]->used)
            peer_tell_due(p, p->packs[i], now_ms);
    if (p->check_ms > 0 && p->check_ms <= now_ms)
        check(p, now_ms);
    if (p->check_ms > 0)
        peer_wake(p, p->check_ms);
    if (p->down_waits) {
        p->down_waits = false;
        peer_down_ask_all(p, now_ms);
    }
}

static void on_message(struct peer *p, const struct peer_event *e, int64_t now_ms)
{
    struct peer_link *l = link_at(p, e->link);
    struct peer_pack *k = pack_at(p, e->pack);
    struct peer_view *v;

    if (e->kind == PEER_ON_BITMAP) {
        on_bitmap(p, l, k, &e->bitmap, now_ms);
        return;
    }
    v = e->kind == PEER_ON_WANT ? peer_view_get(p, l, k) : peer_view_find(l, k);
    if (v == NULL)
        return;
    if (e->kind == PEER_ON_HAVE && v->heard)
        on_have(p, v, e, now_ms);
    else if (e->kind == PEER_ON_WANT)
        peer_up_want(p, v, e->first, e->count, now_ms);
    else if (e->kind == PEER_ON_CANCEL)
        peer_up_cancel(p, v, e->first, e->count);
    else if (e->kind == PEER_ON_REFUSE)
        peer_down_refused(p, v, e, now_ms);
    else if (e->kind == PEER_UNSENT)
        on_unsent(p, v, e, now_ms);
    else if (e->kind == PEER_UNREAD)
        on_unread(p, v, e->first, now_ms);
}

static void on_leaf(struct peer *p, const struct peer_event *e, int64_t now_ms)
{
    struct peer_pack *k = pack_at(p, e->pack);
    struct peer_view *v = e->link < 0 ? NULL : peer_view_find(link_at(p, e->link), k);

    if (e->kind == PEER_VERIFIED)
        peer_down_verified(p, k, v, e->first, now_ms);
    else
        peer_down_bad(p, k, v, e->first, now_ms);
    check_done(p, k, now_ms);
}

bool peer_takes(struct peer *p, int link, int pack, uint32_t leaf, int64_t now_ms)
{
    struct peer_link *l = link_at(p, link);
    struct peer_view *v = pack < 0 ? NULL : peer_view_find(l, pack_at(p, pack));

    if (v != NULL)
        return peer_down_takes(p, v, leaf, now_ms);
    (void)peer_late_may_come(p, l, NULL);
    return false;
}

void peer_step(struct peer *p, const struct peer_event *e, int64_t now_ms)
{
    if (e->kind == PEER_TICK)
        on_tick(p, now_ms);
    else if (e->kind == PEER_VERIFIED || e->kind == PEER_BAD)
        on_leaf(p, e, now_ms);
    else if (e->kind != PEER_SENT)
        on_message(p, e, now_ms);
    if (e->kind == PEER_SENT || e->kind == PEER_UNREAD)
        peer_up_sent(p, link_at(p, e->link), now_ms);
    if (peer_up_give(p, now_ms) && list_empty(&p->serving))
        peer_show_idle(p, now_ms);
}

int64_t peer_next_ms(const struct peer *p)
{
    if (p->stuck_ms >= 0 && (p->due_ms < 0 || p->stuck_ms < p->due_ms))
        return p->stuck_ms;
    return p->due_ms;
}

void peer_limit(struct peer *p, uint64_t up_bytes, uint64_t down_bytes, int64_t now_ms)
{
    bucket_set(&p->up, up_bytes, now_ms);
    bucket_set(&p->down, down_bytes, now_ms);
    (void)peer_up_give(p, now_ms);
    peer_down_ask_all(p, now_ms);
}
