/* mailbox_msg.c - rows' JSON to link messages, and link messages to rows' JSON. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/mailbox.h"
#include "rollout/plan.h"
#include "rollout/swarm_json.h"

static char *text_of(const json_t *value)
{
    return value == NULL ? mem_strdup("{}") : json_text(value);
}

static int read_artifact(struct msg_artifact *a, const json_t *json, struct err *err)
{
    const char *variant = NULL;
    const json_t *packs = NULL;
    struct msg_pack *list;
    int r = json_get_text(json, "variant", NAME_MAX_BYTES, &variant, err);

    if (r == 0)
        r = json_get_hash(json, "artifact", &a->artifact, err);
    if (r == 0)
        r = json_get_array(json, "packs", PACKS_MAX, &packs, err);
    if (r < 0)
        return r;
    a->variant = mem_strdup(variant);
    a->packs.items = list = mem_calloc(json_array_size(packs) + 1, sizeof(*list));
    for (size_t i = 0; i < json_array_size(packs); i++) {
        const char *hex = json_string_value(json_array_get(packs, i));

        if (hex == NULL || !hash_parse(&list[i].pack, hex))
            return err_set(err, ERR_INVALID, "packs: not a hash");
        a->packs.count++;
    }
    return 0;
}

int msg_from_replicate(struct msg_replicate **ret, const json_t *body, struct err *err)
{
    struct msg_replicate *m = mem_alloc(sizeof(*m));
    const char *deployment = NULL;
    const json_t *list = NULL;
    struct msg_artifact *items;
    int r = json_get_text(body, "deployment", NAME_MAX_BYTES, &deployment, err);

    if (r == 0)
        r = json_get_array(body, "artifacts", ARTIFACTS_MAX, &list, err);
    m->deployment = mem_strdup(deployment == NULL ? "" : deployment);
    m->artifacts.items = items = mem_calloc(json_array_size(list) + 1, sizeof(*items));
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
        m->artifacts.count++;
        r = read_artifact(&items[i], json_array_get(list, i), err);
    }
    if (r < 0) {
        codec_free(msg_codec(MSG_REPLICATE), m);
        return err_wrap(err, "replicate");
    }
    *ret = m;
    return 0;
}

static int read_rule(struct msg_rule *rule, const json_t *json, struct err *err)
{
    const char *threshold = NULL;
    int64_t wave = 0;
    int r = json_get_int(json, "wave", 0, WAVES_MAX, &wave, err);

    if (r == 0)
        r = json_get_text(json, "threshold", 16, &threshold, err);
    if (r == 0 && !threshold_parse(&rule->threshold, threshold))
        r = err_set(err, ERR_INVALID, "threshold: not 16 digits");
    rule->wave = (uint32_t)wave;
    rule->where = text_of(json_object_get(json, "where"));
    return r;
}

int msg_from_plan(struct msg_plan **ret, const json_t *body, struct err *err)
{
    struct msg_plan *m = mem_alloc(sizeof(*m));
    const char *deployment = "", *service = "";
    const json_t *rules = NULL;
    struct msg_rule *items;
    int64_t waves = 0;
    int r = json_get_text(body, "deployment", NAME_MAX_BYTES, &deployment, err);

    if (r == 0)
        r = json_get_text(body, "service", NAME_MAX_BYTES, &service, err);
    if (r == 0)
        r = json_get_hash(body, "release", &m->release, err);
    if (r == 0)
        r = json_get_hash_or_zero(body, "rollback_to", &m->rollback_to, err);
    if (r == 0)
        r = json_get_int(body, "waves", 0, WAVES_MAX, &waves, err);
    if (r == 0)
        r = json_get_array(body, "rules", RULES_MAX, &rules, err);
    m->deployment = mem_strdup(deployment);
    m->service = mem_strdup(service);
    m->select = text_of(json_object_get(body, "select"));
    m->variant = text_of(json_object_get(body, "variant"));
    m->waves = (uint32_t)waves;
    m->rules.items = items = mem_calloc(json_array_size(rules) + 1, sizeof(*items));
    for (size_t i = 0; r == 0 && i < json_array_size(rules); i++) {
        m->rules.count++;
        r = read_rule(&items[i], json_array_get(rules, i), err);
    }
    if (r < 0) {
        codec_free(msg_codec(MSG_PLAN), m);
        return err_wrap(err, "plan");
    }
    *ret = m;
    return 0;
}

int msg_from_fleet_ask(struct msg_fleet_ask **ret, const json_t *request, struct err *err)
{
    struct msg_fleet_ask *m;

    if (!json_is_object(request))
        return err_set(err, ERR_INVALID, "fleet question: not an object");
    m = mem_alloc(sizeof(*m));
    m->select = text_of(json_object_get(request, "select"));
    m->variant = text_of(json_object_get(request, "variant"));
    *ret = m;
    return 0;
}

int msg_from_quantile_ask(struct msg_quantile_ask **ret, const json_t *request, struct err *err)
{
    struct msg_quantile_ask *m;
    const char *deployment = NULL;
    const json_t *ranks = NULL;
    struct msg_number *items;
    int r = json_get_text(request, "deployment", NAME_MAX_BYTES, &deployment, err);

    if (r == 0)
        r = json_get_array(request, "ranks", RULES_MAX, &ranks, err);
    if (r < 0)
        return err_wrap(err, "quantile question");
    m = mem_alloc(sizeof(*m));
    m->deployment = mem_strdup(deployment);
    m->where = text_of(json_object_get(request, "where"));
    m->ranks.items = items = mem_calloc(json_array_size(ranks) + 1, sizeof(*items));
    m->ranks.count = json_array_size(ranks);
    for (size_t i = 0; i < m->ranks.count; i++)
        items[i].value = (uint64_t)json_integer_value(json_array_get(ranks, i));
    *ret = m;
    return 0;
}

int64_t mailbox_number(uint64_t n)
{
    return n < (uint64_t)MAILBOX_NUMBER_MAX ? (int64_t)n : MAILBOX_NUMBER_MAX;
}

/* What a region cannot have is cut, so that sums over regions and deployments stay within 64 bits. */
static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)mailbox_number(n));
}

json_t *fleet_to_json(const struct msg_fleet *m)
{
    const struct msg_tally *tallies = m->variants.items;
    json_t *variants = json_object();

    for (size_t i = 0; i < m->variants.count; i++)
        json_object_set_new(variants, tallies[i].name, number(tallies[i].count));
    return json_pack("{s:o,s:o,s:o}", "total", number(m->total), "reachable", number(m->reachable),
                     "variants", variants);
}

json_t *quantile_to_json(const struct msg_quantile *m)
{
    const struct msg_number *numbers = m->thresholds.items;
    json_t *list = json_array();
    char text[17];

    for (size_t i = 0; i < m->thresholds.count; i++) {
        threshold_text(text, numbers[i].value);
        json_array_append_new(list, json_string(text));
    }
    return json_pack("{s:o,s:o}", "matching", number(m->matching), "thresholds", list);
}

static json_t *waves_json(const struct msg_counts *m)
{
    const struct msg_wave_counts *counts = m->waves.items;
    json_t *list = json_array();
    uint32_t highest = 0;

    for (size_t i = 0; i < m->waves.count; i++)
        if (counts[i].wave > highest)
            highest = counts[i].wave;
    for (uint32_t w = 0; m->waves.count > 0 && w <= highest && w <= WAVES_MAX; w++)
        json_array_append_new(list, json_pack("[i,i,i,i,i,i,i,i,i]", 0, 0, 0, 0, 0, 0, 0, 0, 0));
    for (size_t i = 0; i < m->waves.count; i++) {
        const struct msg_wave_counts *c = &counts[i];

        json_array_set_new(list, c->wave,
                           json_pack("[o,o,o,o,o,o,o,o,o]", number(c->total), number(c->reachable),
                                     number(c->staged), number(c->activated), number(c->healthy),
                                     number(c->bad), number(c->unknown), number(c->rolled_back),
                                     number(c->previous)));
    }
    return list;
}

json_t *counts_to_json(const struct msg_counts *m)
{
    const struct msg_failure *failures = m->failures.items;
    json_t *list = json_array(), *counts;

    for (size_t i = 0; i < m->failures.count; i++)
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:s}", "machine", failures[i].machine, "phase",
                                        failures[i].phase, "reason", failures[i].reason));
    counts =
        json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "generation", number(m->generation),
                  "waves", waves_json(m), "staged_bytes", number(m->staged_bytes), "wanted_bytes",
                  number(m->wanted_bytes), "seed_bytes", number(m->seed_bytes), "peer_bytes",
                  number(m->peer_bytes), "saved_bytes", number(m->saved_bytes), "drift",
                  number(m->drift), "slots", number(m->slots_used), "failures", list);
    if (m->swarm.count > 0)
        json_object_set_new(counts, "swarm", swarm_to_row(m->swarm.items));
    return counts;
}

json_t *runs_to_json(const struct msg_runs *m)
{
    const struct msg_running *releases = m->releases.items;
    json_t *list = json_array();
    char hex[HASH_HEX];

    for (size_t i = 0; i < m->releases.count; i++)
        json_array_append_new(list, json_pack("[s,o]", hash_hex(&releases[i].release, hex),
                                              number(releases[i].machines)));
    return list;
}
