#include "rollout/swarm_json.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct number {
    const char *name;
    size_t offset;
    uint64_t max;
};

static const struct number numbers[] = {
    { "machines", offsetof(struct msg_swarm, machines), SWARM_NUMBER_MAX },
    { "done", offsetof(struct msg_swarm, done), SWARM_NUMBER_MAX },
    { "rated", offsetof(struct msg_swarm, rated), SWARM_NUMBER_MAX },
    { "late", offsetof(struct msg_swarm, late), SWARM_NUMBER_MAX },
    { "refused", offsetof(struct msg_swarm, refused), SWARM_NUMBER_MAX },
    { "by_limit", offsetof(struct msg_swarm, by_limit), SWARM_NUMBER_MAX },
    { "by_link", offsetof(struct msg_swarm, by_link), SWARM_NUMBER_MAX },
    { "by_observed", offsetof(struct msg_swarm, by_observed), SWARM_NUMBER_MAX },
    { "ratio_max", offsetof(struct msg_swarm, ratio_max), FIGURES_RATIO_MAX },
    { "ms_max", offsetof(struct msg_swarm, ms_max), FIGURES_MS_MAX },
    { "near_bytes", offsetof(struct msg_swarm, near_bytes), SWARM_NUMBER_MAX },
    { "far_bytes", offsetof(struct msg_swarm, far_bytes), SWARM_NUMBER_MAX },
    { "stolen", offsetof(struct msg_swarm, stolen), SWARM_NUMBER_MAX },
    { "doubled", offsetof(struct msg_swarm, doubled), SWARM_NUMBER_MAX },
    { "useless", offsetof(struct msg_swarm, useless), SWARM_NUMBER_MAX },
    { "bad", offsetof(struct msg_swarm, bad), SWARM_NUMBER_MAX },
    { "edges", offsetof(struct msg_swarm, edges), SWARM_NUMBER_MAX },
    { "stale", offsetof(struct msg_swarm, stale), SWARM_NUMBER_MAX },
};

static json_t *cut(uint64_t n, uint64_t max)
{
    return json_integer((json_int_t)(n < max ? n : max));
}

static uint64_t read_number(const json_t *json, uint64_t max)
{
    json_int_t n = json_integer_value(json);

    return n <= 0 ? 0 : (uint64_t)n < max ? (uint64_t)n : max;
}

/* --- rows --- */

static json_t *spread_row(const struct list_of *list)
{
    const struct msg_bucket *buckets = list->items;
    json_t *row = json_array();

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(row, json_pack("[i,o]", (int)buckets[i].index,
                                             cut(buckets[i].count, SWARM_NUMBER_MAX)));
    return row;
}

json_t *swarm_to_row(const struct msg_swarm *m)
{
    const struct msg_pack_sent *packs = m->packs.items;
    const struct msg_offender *offenders = m->offenders.items;
    json_t *row = json_object(), *list = json_array();
    char hex[HASH_HEX];

    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        uint64_t n;

        memcpy(&n, (const char *)m + numbers[i].offset, sizeof(n));
        json_object_set_new(row, numbers[i].name, cut(n, numbers[i].max));
    }
    json_object_set_new(row, "ratios", spread_row(&m->ratios));
    json_object_set_new(row, "times", spread_row(&m->times));
    for (size_t i = 0; i < m->packs.count; i++)
        json_array_append_new(list, json_pack("[s,o,o]", hash_hex(&packs[i].pack, hex),
                                              cut(packs[i].bytes, SWARM_NUMBER_MAX),
                                              cut(packs[i].sent_bytes, SWARM_NUMBER_MAX)));
    json_object_set_new(row, "packs", list);
    list = json_array();
    for (size_t i = 0; i < m->offenders.count; i++)
        json_array_append_new(
            list, json_pack("[s,o]", offenders[i].machine, cut(offenders[i].by, SWARM_NUMBER_MAX)));
    json_object_set_new(row, "offenders", list);
    return row;
}

static void read_spread(struct list_of *ret, const json_t *row)
{
    struct msg_bucket *buckets = mem_calloc(json_array_size(row) + 1, sizeof(*buckets));

    *ret = (struct list_of){ buckets, 0 };
    for (size_t i = 0; i < json_array_size(row) && i < BUCKETS_MAX; i++) {
        const json_t *one = json_array_get(row, i);

        buckets[ret->count++] =
            (struct msg_bucket){ (uint16_t)read_number(json_array_get(one, 0), UINT16_MAX),
                                 read_number(json_array_get(one, 1), SWARM_NUMBER_MAX) };
    }
}

static void read_packs(struct list_of *ret, const json_t *row)
{
    struct msg_pack_sent *packs = mem_calloc(json_array_size(row) + 1, sizeof(*packs));

    *ret = (struct list_of){ packs, 0 };
    for (size_t i = 0; i < json_array_size(row) && i < PACKS_MAX; i++) {
        const json_t *one = json_array_get(row, i);
        const char *hex = json_string_value(json_array_get(one, 0));
        struct msg_pack_sent *p = &packs[ret->count];

        if (hex == NULL || !hash_parse(&p->pack, hex))
            continue;
        p->bytes = read_number(json_array_get(one, 1), SWARM_NUMBER_MAX);
        p->sent_bytes = read_number(json_array_get(one, 2), SWARM_NUMBER_MAX);
        ret->count++;
    }
}

static void read_offenders(struct list_of *ret, const json_t *row)
{
    struct msg_offender *offenders = mem_calloc(json_array_size(row) + 1, sizeof(*offenders));

    *ret = (struct list_of){ offenders, 0 };
    for (size_t i = 0; i < json_array_size(row) && i < OFFENDERS_MAX; i++) {
        const json_t *one = json_array_get(row, i);
        const char *machine = json_string_value(json_array_get(one, 0));

        if (machine != NULL)
            offenders[ret->count++] =
                (struct msg_offender){ mem_strdup(machine),
                                       read_number(json_array_get(one, 1), SWARM_NUMBER_MAX) };
    }
}

void swarm_from_row(struct msg_swarm *ret, const json_t *row)
{
    *ret = (struct msg_swarm){ .machines = 0 };
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        uint64_t n = read_number(json_object_get(row, numbers[i].name), numbers[i].max);

        memcpy((char *)ret + numbers[i].offset, &n, sizeof(n));
    }
    read_spread(&ret->ratios, json_object_get(row, "ratios"));
    read_spread(&ret->times, json_object_get(row, "times"));
    read_packs(&ret->packs, json_object_get(row, "packs"));
    read_offenders(&ret->offenders, json_object_get(row, "offenders"));
}

void swarm_release(struct msg_swarm *m)
{
    struct msg_counts counts = { .swarm = { mem_dup(m, sizeof(*m)), 1 } };

    codec_release(msg_codec(MSG_COUNTS), &counts);
    *m = (struct msg_swarm){ .machines = 0 };
}

/* --- for people --- */

static json_t *thousandths(uint64_t n)
{
    return json_real((double)n / 1000);
}

/* p50, p99 and the exact maximum, all in thousandths of what is shown. */
static json_t *spread_view(const struct spread *s, uint64_t max)
{
    uint64_t p50 = spread_at(s, 500), p99 = spread_at(s, 990);

    if (s->total == 0)
        return json_null();
    return json_pack("{s:o,s:o,s:o}", "p50", thousandths(p50 < max ? p50 : max), "p99",
                     thousandths(p99 < max ? p99 : max), "max", thousandths(max));
}

static void add_offenders(json_t *list, const char *region, const struct msg_swarm *m)
{
    const struct msg_offender *offenders = m->offenders.items;

    for (size_t i = 0; i < m->offenders.count; i++)
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:o}", "machine", offenders[i].machine, "region",
                                        region, "banned_by", cut(offenders[i].by, UINT32_MAX)));
}

static void add_packs(json_t *list, const char *region, const struct msg_swarm *m)
{
    const struct msg_pack_sent *packs = m->packs.items;
    char hex[HASH_HEX];

    for (size_t i = 0; i < m->packs.count; i++) {
        struct msg_swarm one = { .packs = { (void *)(uintptr_t)&packs[i], 1 } };

        json_array_append_new(
            list, json_pack("{s:s,s:s,s:o,s:o,s:o}", "pack", hash_hex(&packs[i].pack, hex),
                            "region", region, "bytes", cut(packs[i].bytes, SWARM_NUMBER_MAX),
                            "sent_bytes", cut(packs[i].sent_bytes, SWARM_NUMBER_MAX), "copies",
                            thousandths(figures_copies(&one))));
    }
}

static json_t *view_of(const struct figures *f, uint64_t copies, bool sent)
{
    const struct msg_swarm *m = &f->sums;
    int cross = figures_cross_rack(m);
    json_t *v = json_object();
    static const struct {
        const char *name;
        size_t offset;
    } plain[] = {
        { "machines", offsetof(struct msg_swarm, machines) },
        { "fetched", offsetof(struct msg_swarm, done) },
        { "rated", offsetof(struct msg_swarm, rated) },
        { "late", offsetof(struct msg_swarm, late) },
        { "refused", offsetof(struct msg_swarm, refused) },
        { "same_rack_bytes", offsetof(struct msg_swarm, near_bytes) },
        { "other_rack_bytes", offsetof(struct msg_swarm, far_bytes) },
        { "stolen", offsetof(struct msg_swarm, stolen) },
        { "doubled", offsetof(struct msg_swarm, doubled) },
        { "useless", offsetof(struct msg_swarm, useless) },
        { "bad_leaves", offsetof(struct msg_swarm, bad) },
        { "edges", offsetof(struct msg_swarm, edges) },
        { "stale_edges", offsetof(struct msg_swarm, stale) },
    };

    for (size_t i = 0; i < COUNT_OF(plain); i++) {
        uint64_t n;

        memcpy(&n, (const char *)m + plain[i].offset, sizeof(n));
        json_object_set_new(v, plain[i].name, cut(n, INT64_MAX));
    }
    json_object_set_new(v, "ratio", spread_view(&f->ratios, m->ratio_max));
    json_object_set_new(v, "seconds", spread_view(&f->times, m->ms_max));
    json_object_set_new(v, "rate_from",
                        json_pack("{s:o,s:o,s:o}", "limit", cut(m->by_limit, INT64_MAX), "link",
                                  cut(m->by_link, INT64_MAX), "observed",
                                  cut(m->by_observed, INT64_MAX)));
    json_object_set_new(v, "seed_copies", sent ? thousandths(copies) : json_null());
    json_object_set_new(v, "cross_rack", cross < 0 ? json_null() : thousandths((uint64_t)cross));
    return v;
}

json_t *swarm_view(const struct swarm_region *regions, size_t n)
{
    struct figures *f = figures_new();
    json_t *offenders = json_array(), *packs = json_array(), *v;
    uint64_t most = 0;

    for (size_t i = 0; i < n; i++) {
        struct msg_swarm m;
        uint64_t copies;

        swarm_from_row(&m, regions[i].row);
        figures_merge(f, &m);
        copies = figures_copies(&m);
        most = copies > most ? copies : most;
        add_offenders(offenders, regions[i].name, &m);
        add_packs(packs, regions[i].name, &m);
        swarm_release(&m);
    }
    if (f->sums.machines + f->sums.refused == 0 && json_array_size(packs) == 0) {
        v = json_null();
        json_decref(offenders);
        json_decref(packs);
    } else {
        v = view_of(f, most, json_array_size(packs) > 0);
        json_object_set_new(v, "packs", packs);
        json_object_set_new(v, "offenders", offenders);
    }
    figures_free(f);
    return v;
}
