#include "rollout/decision.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *const names[] = { "none", "go", "wait", "hold", "rollback", "fail" };

const char *decision_action_name(enum decision_action a)
{
    return (size_t)a < COUNT_OF(names) ? names[a] : "none";
}

static int parse_action(struct decision *d, const json_t *json, struct err *err)
{
    const char *action = NULL;
    int r = json_get_text(json, "action", 16, &action, err);

    if (r < 0)
        return r;
    for (size_t i = 1; i < COUNT_OF(names); i++)
        if (strcmp(names[i], action) == 0)
            d->action = (enum decision_action)i;
    if (d->action == DECISION_NONE)
        return err_set(err, ERR_POLICY, "action: '%s' is none of go, wait, hold, rollback, fail",
                       action);
    return 0;
}

static int parse_memo(struct decision *d, const json_t *json, struct err *err)
{
    const json_t *memo = json_object_get(json, "memo");
    char *text;
    size_t len;

    if (memo == NULL || json_is_null(memo))
        return 0;
    /* An empty Lua table may arrive as an empty list. */
    if (!json_is_object(memo) && (!json_is_array(memo) || json_array_size(memo) > 0))
        return err_set(err, ERR_POLICY, "memo: not a table with names");
    text = json_text(memo);
    len = strlen(text);
    free(text);
    if (len > DECISION_MEMO_MAX_BYTES)
        return err_set(err, ERR_POLICY, "memo: %zu bytes, at most %d are kept", len,
                       DECISION_MEMO_MAX_BYTES);
    d->memo = memo;
    return 0;
}

int decision_parse(struct decision *ret, const json_t *json, struct err *err)
{
    static const char *const known[] = { "action", "reason", "after", "memo", NULL };
    struct decision d = { .reason = "" };
    int64_t after = 0;
    int r = json_is_object(json) ? json_only(json, known, err)
                                 : err_set(err, ERR_POLICY, "not a table");

    if (r == 0)
        r = parse_action(&d, json, err);
    if (r == 0)
        r = json_get_text_or(json, "reason", DECISION_REASON_MAX_BYTES, "", &d.reason, err);
    if (r == 0)
        r = json_get_int_or(json, "after", 0, DECISION_AFTER_MAX_S, DECISION_AFTER_S, &after, err);
    if (r == 0)
        r = parse_memo(&d, json, err);
    if (r == 0 && d.action != DECISION_GO && d.reason[0] == '\0')
        r = err_set(err, ERR_POLICY, "reason: needed with '%s'", decision_action_name(d.action));
    if (r < 0) {
        if (err != NULL)
            err->code = ERR_POLICY;
        return err_wrap(err, "decision");
    }
    d.after_ms = after * 1000;
    *ret = d;
    return 0;
}
