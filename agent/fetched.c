#include "fetched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/figures.h"

int rate_parse(const char *text, uint64_t *ret)
{
    static const char units[] = "KMG";
    char *end;
    double value = strtod(text, &end);
    const char *unit = *end == '\0' ? NULL : strchr(units, *end);

    if (end == text || !(value > 0) || value > 1e12 || (*end != '\0' && (!unit || end[1] != '\0')))
        return -1;
    for (const char *u = units; unit != NULL && u <= unit; u++)
        value *= 1024;
    *ret = value < 1 ? 1 : (uint64_t)value;
    return 0;
}

void fetched_set(struct fetched *f, const struct exchange_tally *t)
{
    f->m.bytes = t->bytes;
    f->m.near_bytes = t->near_bytes;
    f->m.far_bytes = t->far_bytes;
    f->m.stolen = t->stolen;
    f->m.doubled = t->doubled;
    f->m.useless = t->useless;
    f->m.bad = t->bad;
    memcpy(f->banned, t->banned, sizeof(f->banned));
    f->nbanned = t->nbanned;
}

void fetched_banned(struct fetched *f, const char *machine)
{
    for (size_t i = 0; i < f->nbanned; i++) {
        if (strcmp(f->banned[i], machine) == 0)
            return;
    }
    if (f->nbanned < BANNED_MAX)
        snprintf(f->banned[f->nbanned++], sizeof(f->banned[0]), "%s", machine);
}

void fetched_rate(struct fetched *f, const struct fetched_rates *r)
{
    uint64_t average = f->m.ms == 0 ? 0 : f->m.bytes * 1000 / f->m.ms;
    uint64_t most = r->observed > average ? r->observed : average;

    f->m.rate = r->limit > 0 ? r->limit : r->link > 0 ? r->link : most;
    f->m.rate_from = r->limit > 0 ? RATE_LIMIT : r->link > 0 ? RATE_LINK : RATE_OBSERVED;
    if (r->limit > 0 && r->link > 0 && r->link < r->limit) {
        f->m.rate = r->link;
        f->m.rate_from = RATE_LINK;
    }
    if (f->m.rate > FIGURES_RATE_MAX) /* a limit that limits nothing */
        f->m.rate = FIGURES_RATE_MAX;
    if (f->m.rate < FETCHED_RATE_MIN) { /* nothing came yet, or nearly */
        f->m.rate = 0;
        f->m.rate_from = RATE_NONE;
    }
}

/* --- in a receipt --- */

struct number {
    const char *name;
    uint64_t *wide;
    uint32_t *narrow;
    uint8_t *byte;
};

enum { NUMBERS = 13 };

static void numbers_of(struct msg_fetch *m, struct number ret[NUMBERS])
{
    const struct number all[NUMBERS] = {
        { "done", NULL, NULL, &m->done },
        { "rate_from", NULL, NULL, &m->rate_from },
        { "rate", &m->rate, NULL, NULL },
        { "ms", &m->ms, NULL, NULL },
        { "bytes", &m->bytes, NULL, NULL },
        { "same_rack", &m->near_bytes, NULL, NULL },
        { "other_rack", &m->far_bytes, NULL, NULL },
        { "stolen", NULL, &m->stolen, NULL },
        { "doubled", NULL, &m->doubled, NULL },
        { "useless", NULL, &m->useless, NULL },
        { "bad", NULL, &m->bad, NULL },
        { "edges", NULL, &m->edges, NULL },
        { "stale", NULL, &m->stale, NULL },
    };

    memcpy(ret, all, sizeof(all));
}

json_t *fetched_to_json(const struct fetched *f)
{
    struct msg_fetch m = f->m;
    struct number all[NUMBERS];
    json_t *json = json_object(), *names = json_array();

    numbers_of(&m, all);
    for (size_t i = 0; i < NUMBERS; i++) {
        uint64_t n = all[i].wide != NULL     ? *all[i].wide
                     : all[i].narrow != NULL ? *all[i].narrow
                                             : *all[i].byte;

        json_object_set_new(json, all[i].name, json_integer((json_int_t)n));
    }
    for (size_t i = 0; i < f->nbanned; i++)
        json_array_append_new(names, json_string(f->banned[i]));
    json_object_set_new(json, "banned", names);
    return json;
}

static int read_banned(struct fetched *f, const json_t *json, struct err *err)
{
    const json_t *names = NULL;

    if (json_get_array(json, "banned", BANNED_MAX, &names, err) < 0)
        return -(int)err->code;
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));

        if (name == NULL || strlen(name) > NAME_MAX_BYTES)
            return err_set(err, ERR_INVALID, "banned: not names");
        snprintf(f->banned[f->nbanned++], sizeof(f->banned[0]), "%s", name);
    }
    return 0;
}

int fetched_from_json(struct fetched *f, const json_t *json, struct err *err)
{
    struct number all[NUMBERS];

    memset(f, 0, sizeof(*f));
    numbers_of(&f->m, all);
    for (size_t i = 0; i < NUMBERS; i++) {
        int64_t max = all[i].wide != NULL ? INT64_MAX : all[i].narrow != NULL ? UINT32_MAX : 255;
        int64_t n;

        if (json_get_int(json, all[i].name, 0, max, &n, err) < 0)
            return -(int)err->code;
        if (all[i].wide != NULL)
            *all[i].wide = (uint64_t)n;
        else if (all[i].narrow != NULL)
            *all[i].narrow = (uint32_t)n;
        else
            *all[i].byte = (uint8_t)n;
    }
    return read_banned(f, json, err);
}

void fetched_tell(const struct fetched *f, struct fetched_room *room, struct msg_progress *m)
{
    room->fetch = f->m;
    for (size_t i = 0; i < f->nbanned; i++)
        room->banned[i].machine = (char *)(uintptr_t)f->banned[i];
    room->fetch.banned = (struct list_of){ room->banned, f->nbanned };
    m->fetch = (struct list_of){ &room->fetch, 1 };
}
