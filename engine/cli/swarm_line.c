#include "cli/swarm_line.h"

#include "cli/answer.h"

static void part(struct buf *out)
{
    if (out->len > 0)
        buf_str_append(out, "; ");
}

/* By what most of the rates are known. */
static const char *rate_word(const json_t *swarm)
{
    static const char *const keys[] = { "observed", "link", "limit" };
    static const char *const words[] = { "observed rate", "link's rate", "limit" };
    const json_t *from = json_object_get(swarm, "rate_from");
    size_t best = 0;

    for (size_t i = 1; i < 3; i++)
        if (int_of(from, keys[i]) > int_of(from, keys[best]))
            best = i;
    return words[best];
}

static void add_time(struct buf *out, const json_t *swarm)
{
    const json_t *ratio = json_object_get(swarm, "ratio"),
                 *seconds = json_object_get(swarm, "seconds");

    if (json_is_object(ratio))
        buf_printf(out, "p50 %.2f, p99 %.2f, max %.2f x size/%s", number_of(ratio, "p50"),
                   number_of(ratio, "p99"), number_of(ratio, "max"), rate_word(swarm));
    else if (json_is_object(seconds))
        buf_printf(out, "p50 %.2f, p99 %.2f, max %.2f s", number_of(seconds, "p50"),
                   number_of(seconds, "p99"), number_of(seconds, "max"));
    if (int_of(swarm, "late") > 0) {
        part(out);
        buf_printf(out, "%lld late", int_of(swarm, "late"));
    }
}

static void add_waste(struct buf *out, const json_t *swarm)
{
    long long stolen = int_of(swarm, "stolen"), stale = int_of(swarm, "stale_edges");
    long long bad = int_of(swarm, "bad_leaves");
    size_t banned = json_array_size(json_object_get(swarm, "offenders"));

    if (stolen > 0) {
        part(out);
        buf_printf(out, "%lld leaves stolen", stolen);
    }
    if (stale > 0) {
        part(out);
        buf_printf(out, "%lld of %lld peers stale", stale, int_of(swarm, "edges"));
    }
    if (bad > 0) {
        part(out);
        buf_printf(out, "%lld wrong leaves", bad);
    }
    if (banned > 0) {
        part(out);
        buf_printf(out, "%zu machine%s banned", banned, banned == 1 ? "" : "s");
    }
}

void swarm_line(struct buf *out, const json_t *swarm)
{
    if (!json_is_object(swarm))
        return;
    add_time(out, swarm);
    if (json_is_number(json_object_get(swarm, "seed_copies"))) {
        part(out);
        buf_printf(out, "%.1f copies from seeds", number_of(swarm, "seed_copies"));
    }
    if (json_is_number(json_object_get(swarm, "cross_rack"))) {
        part(out);
        buf_printf(out, "%.0f %% between racks", 100 * number_of(swarm, "cross_rack"));
    }
    add_waste(out, swarm);
}
