#include "lib/peer_world.h"

#include <string.h>

#include "lib/check.h"

void world_take(struct world *w)
{
    struct peer_action a;

    w->nseen = 0;
    while (peer_next(w->p, &a)) {
        struct seen *s = &w->seen[w->nseen++];

        assert_true(w->nseen < SEEN_MAX);
        s->a = a;
        for (uint32_t i = 0; a.kind == PEER_HAVE && i < a.count && i < 256; i++)
            s->leaves[i] = a.leaves[i].index;
    }
}

/* How many actions of that kind for that link (-1: any). */
size_t world_count(const struct world *w, enum peer_action_kind kind, int link)
{
    size_t n = 0;

    for (size_t i = 0; i < w->nseen; i++)
        n += w->seen[i].a.kind == kind && (link < 0 || w->seen[i].a.link == link);
    return n;
}

const struct seen *world_first(const struct world *w, enum peer_action_kind kind, int link)
{
    for (size_t i = 0; i < w->nseen; i++)
        if (w->seen[i].a.kind == kind && (link < 0 || w->seen[i].a.link == link))
            return &w->seen[i];
    fail_msg("no action %d for link %d", (int)kind, link);
    return NULL;
}

void world_step(struct world *w, struct peer_event e)
{
    peer_step(w->p, &e, w->now_ms);
    world_take(w);
}

/* A pack of that many leaves; the machine has those below `have`. */
void world_open(struct world *w, bool is_node, size_t leaves, size_t have)
{
    struct peer_options o = { .seed = 7, .is_node = is_node };
    struct peer_pack_options k = { .leaves = leaves, .piece_leaves = 1 };
    struct bitmap b;

    memset(w, 0, sizeof(*w));
    w->p = peer_new(&o);
    w->now_ms = 1000;
    bitmap_init(&b, leaves);
    for (size_t i = 0; i < have; i++)
        bitmap_put(&b, i, true);
    k.have = &b;
    k.complete = have == leaves;
    w->pack = peer_pack_open(w->p, &k, w->now_ms);
    bitmap_release(&b);
    world_take(w);
}

void world_close(struct world *w)
{
    peer_free(w->p);
}

/* The other side has the leaves from..to-1. */
void world_bitmap(struct world *w, int link, size_t from, size_t to)
{
    const struct bitmap *have = peer_pack_has(w->p, w->pack);
    struct bitmap b;

    bitmap_init(&b, have->bits);
    for (size_t i = from; i < to; i++)
        bitmap_put(&b, i, true);
    world_step(w, (struct peer_event){ .kind = PEER_ON_BITMAP,
                                       .link = link,
                                       .pack = w->pack,
                                       .bitmap = { b.bytes, bitmap_size(&b) } });
    bitmap_release(&b);
}

int world_add_link(struct world *w, size_t from, size_t to)
{
    int link = peer_link_open(w->p, false, w->now_ms);

    world_take(w);
    world_bitmap(w, link, from, to);
    return link;
}

void world_say(struct world *w, enum peer_event_kind kind, int link, uint32_t leaf)
{
    struct msg_index index = { leaf };

    world_step(w, (struct peer_event){ .kind = kind,
                                       .link = link,
                                       .pack = w->pack,
                                       .first = leaf,
                                       .count = 1,
                                       .leaves = &index });
}

/* The leaf arrives and is verified; what was done meanwhile is in seen, VERIFIED's last. */
void world_bring(struct world *w, int link, uint32_t leaf)
{
    assert_true(peer_takes(w->p, link, w->pack, leaf, w->now_ms));
    world_say(w, PEER_VERIFIED, link, leaf);
}

/* Runs ticks until then. */
void world_pass(struct world *w, int64_t until_ms)
{
    while (peer_next_ms(w->p) >= 0 && peer_next_ms(w->p) <= until_ms) {
        if (w->now_ms < peer_next_ms(w->p))
            w->now_ms = peer_next_ms(w->p);
        world_step(w, (struct peer_event){ .kind = PEER_TICK });
    }
    w->now_ms = until_ms;
}
