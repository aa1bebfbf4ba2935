#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "rollout/swarm_json.h"

/* What a region tells fits into its message, and comes back from a row as it was. */
static void check_region(const struct figures *f)
{
    struct msg_counts told = { .swarm = { mem_alloc(sizeof(struct msg_swarm)), 1 } };
    struct figures *merged = figures_new();
    AUTO_JSON *row = NULL, *again = NULL, *view = NULL;
    AUTO_BUF bytes = BUF_INIT;
    struct msg_swarm back;
    struct err err = ERR_INIT;

    figures_take(f, told.swarm.items);
    if (msg_frame(&bytes, MSG_COUNTS, &told, &err) < 0)
        abort();
    figures_merge(merged, told.swarm.items);
    if (memcmp(&merged->sums, &f->sums, sizeof(f->sums)) != 0 ||
        memcmp(&merged->ratios, &f->ratios, sizeof(f->ratios)) != 0 ||
        memcmp(&merged->times, &f->times, sizeof(f->times)) != 0)
        abort();
    row = swarm_to_row(told.swarm.items);
    swarm_from_row(&back, row);
    again = swarm_to_row(&back);
    if (!json_equal(row, again))
        abort();
    view = swarm_view(&(struct swarm_region){ "r1", row }, 1);
    swarm_release(&back);
    codec_release(msg_codec(MSG_COUNTS), &told);
    figures_free(merged);
}

static void check_sums(const struct figures *f, uint64_t machines)
{
    const struct msg_swarm *m = &f->sums;

    if (m->machines > machines || m->done > m->machines || m->rated > m->done ||
        m->late > m->machines || m->by_limit + m->by_link + m->by_observed != m->rated ||
        m->ratio_max > FIGURES_RATIO_MAX || m->ms_max > FIGURES_MS_MAX || m->stale > m->edges ||
        m->near_bytes + m->far_bytes > machines * FIGURES_BYTES_MAX || f->ratios.total != m->rated)
        abort();
}

/* A stream of PROGRESS, each another machine's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct figures *f = figures_new();
    enum msg_type type;
    struct bytes payload;
    struct err err = ERR_INIT;
    uint64_t machines = 0;
    size_t len = 0;

    while (msg_next_frame(data, size, &len, &type, &payload, &err) == 0 && len > 0) {
        void *msg = NULL;

        if (type == MSG_PROGRESS &&
            codec_decode(&msg, msg_codec(type), payload.data, payload.len, &err) == 0) {
            if (figures_check(msg, 0, &err) < 0) {
                figures_refused(f, 1);
            } else {
                figures_cut(msg, 0);
                figures_add(f, msg);
            }
            machines++;
        }
        codec_free(msg_codec(MSG_PROGRESS), msg);
        data += len;
        size -= len;
    }
    check_sums(f, machines);
    check_region(f);
    figures_free(f);
    return 0;
}
