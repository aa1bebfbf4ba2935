#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "store/exchange_internal.h"

/* What is counted of fetches and links, for figures (swarm/figures.h). */

void tally_kept(struct exchange_pack *p, enum peer_rack rack, size_t bytes)
{
    struct exchange_tally *t = p->fetch == NULL ? NULL : p->fetch->tally;

    if (t == NULL)
        return;
    t->bytes += bytes;
    t->near_bytes += rack == RACK_SAME ? bytes : 0;
    t->far_bytes += rack == RACK_OTHER ? bytes : 0;
}

/* What machine is banned for what it did with a pack is told of with it. */
void tally_was_bad(struct exchange_pack *p, struct exchange_link *l, const char *what)
{
    struct exchange_tally *t = p->fetch == NULL ? NULL : p->fetch->tally;
    uint64_t before = p->x->counts.banned;
    AUTO_FREE char *id = mem_strdup(link_peer_id(l->link));

    link_was_bad(l, what);
    if (p->x->counts.banned > before && !l->is_seed && t != NULL && t->nbanned < BANNED_MAX)
        snprintf(t->banned[t->nbanned++], sizeof(t->banned[0]), "%s", id);
}

void tally_pack(struct exchange_pack *p)
{
    struct exchange_tally *t = p->fetch == NULL ? NULL : p->fetch->tally;
    struct peer_figures now;

    if (p->number < 0)
        return;
    now = peer_pack_figures(p->x->peer, p->number);
    if (t != NULL) {
        t->stolen += (uint32_t)(now.stolen - p->counted.stolen);
        t->doubled += (uint32_t)(now.doubled - p->counted.doubled);
        t->useless += (uint32_t)(now.useless - p->counted.useless);
        t->bad += (uint32_t)(now.bad - p->counted.bad);
    }
    p->counted = now;
}

void tally_arrived(struct exchange *x, size_t bytes)
{
    x->meter.bytes[x->meter.at] += bytes;
}

/* Slots of a tick each, as long as ticks really are. */
void tally_tick(struct exchange *x)
{
    struct meter *m = &x->meter;
    int64_t now_ms = exchange_now(x);
    size_t next = (m->at + 1) % METER_SLOTS;
    int64_t since_ms = m->since_ms[next]; /* the oldest slot */
    uint64_t bytes = 0, rate;

    for (size_t i = 0; i < METER_SLOTS; i++)
        bytes += m->bytes[i];
    if (since_ms > 0 && now_ms - since_ms >= METER_MS) {
        rate = bytes * 1000 / (uint64_t)(now_ms - since_ms);
        m->best = rate > m->best ? rate : m->best;
    }
    m->at = next;
    m->bytes[next] = 0;
    m->since_ms[next] = now_ms;
}

uint64_t exchange_best_rate(const struct exchange *x)
{
    return x->meter.best;
}

uint64_t exchange_given_bytes(const struct exchange *x, const struct hash *pack)
{
    const struct exchange_pack *p = pack_find(x, pack);

    return p == NULL ? 0 : p->given_bytes;
}

void exchange_set_rack(struct exchange *x, const struct link *link, enum peer_rack rack)
{
    struct exchange_link *l = link_find(x, link);

    if (l != NULL)
        l->rack = rack;
}

bool exchange_has_heard(const struct exchange *x, const struct link *link, const struct hash *pack)
{
    const struct exchange_link *l = link_find(x, link);
    const struct exchange_pack *p = pack_find(x, pack);

    if (l == NULL)
        return false;
    if (p != NULL && p->number >= 0)
        return peer_link_has(x->peer, l->number, p->number) != NULL;
    for (size_t i = 0; i < l->nremotes; i++)
        if (hash_equal(&l->remotes[i].hash, pack))
            return true;
    return false;
}
