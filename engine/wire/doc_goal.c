#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/doc.h"
#include "wire/member.h"

static int parse_threshold(const json_t *rule, uint64_t *ret, struct err *err)
{
    const char *text = NULL;
    uint64_t v = 0;
    int r = json_get_text(rule, "threshold", 16, &text, err);

    if (r < 0)
        return r;
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return err_set(err, ERR_INVALID, "threshold: not 16 hex digits");
    v = strtoull(text, NULL, 16);
    *ret = v;
    return 0;
}

static int parse_rule(struct goal_rule *rule, const json_t *json, struct err *err)
{
    static const char *const known[] = { "where", "threshold", NULL };
    const json_t *where = NULL;
    int r = json_only(json, known, err);

    if (r == 0)
        r = json_get_object(json, "where", &where, err);
    if (r == 0)
        r = parse_threshold(json, &rule->threshold, err);
    if (r == 0)
        r = predicate_from_json(&rule->where, where, err);
    return r;
}

static int parse_rules(struct goal_rule **rules, size_t *count, const json_t *goal, const char *key,
                       struct err *err)
{
    const json_t *list = NULL;
    int r = json_get_array(goal, key, RULES_MAX, &list, err);

    if (r < 0)
        return r;
    *rules = mem_calloc(json_array_size(list), sizeof(**rules));
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (parse_rule(&(*rules)[i], json_array_get(list, i), err) < 0)
            return err_wrap(err, "%s[%zu]", key, i);
        ++*count;
    }
    return 0;
}

static int parse_name(char **ret, const json_t *json, const char *key, struct err *err)
{
    const char *text = NULL;
    int r = json_get_text(json, key, NAME_MAX_BYTES, &text, err);

    if (r == 0)
        r = doc_check_name(key, text, err);
    if (r == 0)
        *ret = mem_strdup(text);
    return r;
}

static int parse_action(struct goal *g, const json_t *json, struct err *err)
{
    const char *text = NULL;
    int r = json_get_text(json, "action", NAME_MAX_BYTES, &text, err);

    if (r < 0)
        return r;
    if (strcmp(text, "run") == 0)
        g->action = GOAL_RUN;
    else if (strcmp(text, "stop") == 0)
        g->action = GOAL_STOP;
    else if (strcmp(text, "absent") == 0)
        g->action = GOAL_ABSENT;
    else
        return err_set(err, ERR_INVALID, "action: '%s' is not run, stop or absent", text);
    if (g->action == GOAL_RUN && hash_is_zero(&g->release))
        return err_set(err, ERR_INVALID, "release: missing, but the action is run");
    return 0;
}

static int parse_numbers(struct goal *g, const json_t *json, struct err *err)
{
    int64_t v = 0, generation = 0, max_moving = 0;
    int r = json_get_int(json, "v", 1, 1, &v, err);

    if (r == 0)
        r = json_get_int(json, "generation", 1, INT64_MAX, &generation, err);
    if (r == 0)
        r = json_get_int(json, "issued", 0, INT64_MAX, &g->issued_ms, err);
    if (r == 0)
        r = json_get_int(json, "expires", 0, INT64_MAX, &g->expires_ms, err);
    if (r == 0)
        r = json_get_int(json, "max_moving", 0, UINT32_MAX, &max_moving, err);
    if (r == 0)
        r = json_get_bool_or(json, "urgent", false, &g->urgent, err);
    g->generation = (uint64_t)generation;
    g->max_moving = (uint64_t)max_moving;
    return r;
}

static int parse(struct goal *g, const json_t *json, struct err *err)
{
    static const char *const known[] = {
        "v",        "cluster",    "region",  "service",     "generation", "issued",
        "expires",  "deployment", "release", "rollback_to", "select",     "stage",
        "activate", "max_moving", "action",  "urgent",      NULL,
    };
    const json_t *select = NULL;
    int r = json_only(json, known, err);

    if (r == 0)
        r = parse_numbers(g, json, err);
    if (r == 0)
        r = parse_name(&g->cluster, json, "cluster", err);
    if (r == 0)
        r = parse_name(&g->region, json, "region", err);
    if (r == 0)
        r = parse_name(&g->service, json, "service", err);
    if (r == 0)
        r = parse_name(&g->deployment, json, "deployment", err);
    if (r == 0)
        r = json_get_hash_or_zero(json, "release", &g->release, err);
    if (r == 0)
        r = json_get_hash_or_zero(json, "rollback_to", &g->rollback_to, err);
    if (r == 0)
        r = json_get_object(json, "select", &select, err);
    if (r == 0)
        r = predicate_from_json(&g->select, select, err);
    if (r == 0)
        r = parse_rules(&g->stage, &g->nstage, json, "stage", err);
    if (r == 0)
        r = parse_rules(&g->activate, &g->nactivate, json, "activate", err);
    return r < 0 ? r : parse_action(g, json, err);
}

int goal_parse(struct goal **ret, const struct bytes *body, struct err *err)
{
    AUTO_JSON *json = NULL;
    struct goal *g;

    if (json_parse(&json, (const char *)body->data, body->len, err) < 0)
        return err_wrap(err, "goal");
    g = mem_alloc(sizeof(*g));
    if (parse(g, json, err) < 0) {
        goal_free(g);
        return err_wrap(err, "goal");
    }
    *ret = g;
    return 0;
}

static void free_rules(struct goal_rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++)
        predicate_free(rules[i].where);
    free(rules);
}

void goal_free(struct goal *g)
{
    if (g == NULL)
        return;
    free_rules(g->stage, g->nstage);
    free_rules(g->activate, g->nactivate);
    predicate_free(g->select);
    free(g->cluster);
    free(g->region);
    free(g->service);
    free(g->deployment);
    free(g);
}

static bool takes(const struct goal_rule *rules, size_t nrules, uint64_t hash,
                  const struct label *labels, size_t n)
{
    for (size_t i = 0; i < nrules; i++) {
        if (hash < rules[i].threshold && predicate_match(rules[i].where, labels, n))
            return true;
    }
    return false;
}

bool goal_stages(const struct goal *g, const char *machine, const struct label *labels, size_t n)
{
    return g->action == GOAL_RUN && predicate_match(g->select, labels, n) &&
           takes(g->stage, g->nstage, wave_hash(g->deployment, machine), labels, n);
}

bool goal_activates(const struct goal *g, const char *machine, const struct label *labels, size_t n)
{
    return g->action == GOAL_RUN && predicate_match(g->select, labels, n) &&
           takes(g->activate, g->nactivate, wave_hash(g->deployment, machine), labels, n);
}
