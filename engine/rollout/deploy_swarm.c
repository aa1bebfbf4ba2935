/* deploy_swarm.c - watches how the swarm of a deployment does, and says so once when it does badly. It decides
 * nothing. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "rollout/deploy_inner.h"
#include "rollout/swarm_json.h"

enum { TOLD_MAX = 256, PERCENT = 100 };

/* True once for each key. */
static bool tell_once(struct step *s, const char *kind, const char *region, const char *what)
{
    AUTO_FREE char *key = mem_printf("%s %s %s", kind, region, what);
    struct deploy *d = s->d;

    if (!json_is_object(d->told)) { /* one of before there were figures */
        json_decref(d->told);
        d->told = json_object();
    }
    if (json_object_get(d->told, key) != NULL || json_object_size(d->told) >= TOLD_MAX)
        return false;
    json_object_set_new(d->told, key, json_true());
    return true;
}

static void watch_time(struct step *s, const char *region, const struct figures *f)
{
    const struct msg_swarm *m = &f->sums;
    double ratio = (double)spread_at(&f->ratios, 990) / 1000;
    double seconds = (double)spread_at(&f->times, 990) / 1000;

    if (m->rated >= DEPLOY_SWARM_JUDGED && ratio * 1000 > DEPLOY_SWARM_SLOW &&
        seconds * 1000 >= FIGURES_LATE_MS && tell_once(s, "swarm_slow", region, ""))
        act_event(
            s, "swarm_slow",
            json_pack("{s:s,s:f,s:f,s:I}", "region", region, "p99", ratio, "seconds", seconds,
                      "rated", (json_int_t)m->rated),
            "the swarm of region %s is slow: p99 of %llu machines is %.2f x size/rate, %.0f s",
            region, (unsigned long long)m->rated, ratio, seconds);
    if (m->late > 0 && m->late * PERCENT >= m->machines && tell_once(s, "swarm_late", region, ""))
        act_event(s, "swarm_late",
                  json_pack("{s:s,s:I,s:I}", "region", region, "late", (json_int_t)m->late,
                            "machines", (json_int_t)m->machines),
                  "%llu of %llu machines of region %s still fetch after %.1f x size/rate",
                  (unsigned long long)m->late, (unsigned long long)m->machines, region,
                  (double)FIGURES_LATE / 1000);
}

static void watch_copies(struct step *s, const char *region, const struct msg_swarm *m)
{
    double copies = (double)figures_copies(m) / 1000;

    if (m->machines >= DEPLOY_SWARM_CROWD && copies > DEPLOY_SWARM_COPIES &&
        tell_once(s, "swarm_copies", region, ""))
        act_event(s, "swarm_copies",
                  json_pack("{s:s,s:f,s:I}", "region", region, "copies", copies, "machines",
                            (json_int_t)m->machines),
                  "the region node of %s has sent %.1f copies of a pack to %llu machines", region,
                  copies, (unsigned long long)m->machines);
}

static void watch_peers(struct step *s, const char *region, const struct msg_swarm *m)
{
    const struct msg_offender *offenders = m->offenders.items;

    for (size_t i = 0; i < m->offenders.count; i++) {
        if (tell_once(s, "swarm_banned", region, offenders[i].machine))
            act_event(
                s, "swarm_banned",
                json_pack("{s:s,s:s,s:I}", "region", region, "machine", offenders[i].machine, "by",
                          (json_int_t)offenders[i].by),
                "machine %s of region %s was banned by %llu others, for wrong bytes or messages",
                offenders[i].machine, region, (unsigned long long)offenders[i].by);
    }
    if (m->edges >= DEPLOY_SWARM_EDGES && m->stale * PERCENT > m->edges * DEPLOY_SWARM_STALE &&
        tell_once(s, "swarm_stale", region, ""))
        act_event(s, "swarm_stale",
                  json_pack("{s:s,s:I,s:I}", "region", region, "stale", (json_int_t)m->stale,
                            "edges", (json_int_t)m->edges),
                  "of %llu peers that region %s named, %llu could not be reached or gave nothing",
                  (unsigned long long)m->edges, region, (unsigned long long)m->stale);
    if (m->refused > 0 && tell_once(s, "swarm_refused", region, ""))
        act_event(s, "swarm_refused", json_pack("{s:s}", "region", region),
                  "machines of region %s tell figures that cannot be; they are not counted",
                  region);
}

void watch_swarm(struct step *s)
{
    for (size_t i = 0; i < s->in->nregions && !s->d->nothing_to_do; i++) {
        const struct deploy_region_input *r = &s->in->regions[i];
        struct figures *f;
        struct msg_swarm m;

        if (r->swarm == NULL)
            continue;
        f = figures_new();
        swarm_from_row(&m, r->swarm);
        figures_merge(f, &m);
        watch_time(s, r->name, f);
        watch_copies(s, r->name, &m);
        watch_peers(s, r->name, &m);
        swarm_release(&m);
        figures_free(f);
    }
}
