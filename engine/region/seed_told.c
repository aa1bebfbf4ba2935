#include "region/seed_told.h"

#include <stdlib.h>

#include "base/mem.h"
#include "region/seed.h"
#include "rollout/swarm_json.h"
#include "wire/doc.h"

struct seed_told {
    struct hash pack;
    uint64_t bytes, refused;
    struct map machines; /* id -> struct msg_progress */
};

struct seed_told *seed_told_new(const struct hash *pack, uint64_t bytes)
{
    struct seed_told *t = mem_alloc(sizeof(*t));

    t->pack = *pack;
    t->bytes = bytes;
    return t;
}

void seed_told_free(struct seed_told *t)
{
    struct map_entry *e;

    if (t == NULL)
        return;
    for (size_t i = 0; (e = map_next(&t->machines, &i)) != NULL;)
        codec_free(msg_codec(MSG_PROGRESS), e->value);
    map_release(&t->machines);
    free(t);
}

static void *copy_of(const struct msg_progress *m)
{
    AUTO_BUF bytes = BUF_INIT;
    void *copy = NULL;
    struct err err = ERR_INIT;

    if (codec_encode(&bytes, msg_codec(MSG_PROGRESS), m, &err) < 0 ||
        codec_decode(&copy, msg_codec(MSG_PROGRESS), bytes.data, bytes.len, &err) < 0)
        return NULL;
    return copy;
}

/* Whom it accuses may be anybody, but must have a name that a machine can have. */
static void keep_names(struct msg_progress *m)
{
    struct msg_fetch *f = m->fetch.items;
    struct msg_banned *banned = m->fetch.count == 0 ? NULL : f->banned.items;
    size_t n = 0;

    for (size_t i = 0; banned != NULL && i < f->banned.count; i++) {
        if (doc_check_name("machine", banned[i].machine, NULL) == 0)
            banned[n++] = banned[i];
        else
            free(banned[i].machine);
    }
    if (banned != NULL)
        f->banned.count = n;
}

void seed_told_take(struct seed_told *t, const char *machine, const struct msg_progress *m)
{
    enum { AGAIN = 2, MORE = 64 * LEAF_BYTES };
    uint64_t limit = AGAIN * t->bytes + MORE;
    struct err err = ERR_INIT;
    void *copy;

    if (figures_check(m, limit, &err) < 0) {
        t->refused++;
        return;
    }
    if (map_get(&t->machines, machine) == NULL && t->machines.count >= SEED_MACHINES_MAX)
        return;
    copy = copy_of(m);
    if (copy == NULL)
        return;
    keep_names(copy);
    figures_cut(copy, limit);
    codec_free(msg_codec(MSG_PROGRESS), map_put(&t->machines, machine, copy));
}

static json_t *view_of(const struct seed_told *t, uint64_t sent_bytes)
{
    struct figures *f = figures_new();
    struct msg_pack_sent *sent = mem_alloc(sizeof(*sent));
    AUTO_JSON *row = NULL;
    struct msg_swarm m;
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&t->machines, &i)) != NULL;)
        figures_add(f, e->value);
    figures_refused(f, t->refused);
    figures_take(f, &m);
    *sent = (struct msg_pack_sent){ t->pack, t->bytes, sent_bytes };
    m.packs = (struct list_of){ sent, 1 };
    row = swarm_to_row(&m);
    swarm_release(&m);
    figures_free(f);
    return swarm_view(&(struct swarm_region){ "seed", row }, 1);
}

void seed_told_json(const struct seed_told *t, uint64_t sent_bytes, struct buf *out)
{
    AUTO_JSON *view = view_of(t, sent_bytes);
    AUTO_FREE char *text =
        json_dumps(view, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));

    buf_printf(out, "\"swarm\":%s", text);
}

static double number_of(const json_t *view, const char *key, const char *of)
{
    return json_number_value(json_object_get(json_object_get(view, key), of));
}

void seed_told_text(const struct seed_told *t, uint64_t sent_bytes, struct buf *out)
{
    AUTO_JSON *view = view_of(t, sent_bytes);
    long long fetched = (long long)json_integer_value(json_object_get(view, "fetched"));

    buf_printf(out, "%.1f copies", json_number_value(json_object_get(view, "seed_copies")));
    if (fetched > 0)
        buf_printf(out, "; %lld machine%s it", fetched, fetched == 1 ? " has" : "s have");
    if (json_is_object(json_object_get(view, "ratio")))
        buf_printf(out, ": p50 %.2f, p99 %.2f, max %.2f x size/rate",
                   number_of(view, "ratio", "p50"), number_of(view, "ratio", "p99"),
                   number_of(view, "ratio", "max"));
}
