/* What a person does to a live deployment: abort, pause, resume, promote, rollback, skip-bake. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/client.h"

static const struct {
    const char *name, *about;
} acts[] = {
    { "abort", "Ends the deployment here: machines stay where they are, and are listed." },
    { "pause", "Opens no further wave until `engine resume`." },
    { "resume", "Goes on after a pause or a hold." },
    { "promote", "Says go in the policy's place: the open wave counts as done." },
    { "rollback", "Brings every machine that moved back to the release before." },
    { "skip-bake", "Does not wait for the open wave to bake." },
};

/* Without an ID: the one live deployment. */
static int only_live(struct client *c, json_t **ret, struct err *err)
{
    AUTO_JSON *answer = NULL;
    const json_t *list;
    int rv = client_get(c, "/v1/deployments?live=1", 10000, &answer, err);

    if (rv == 0)
        rv = json_get_array(answer, "deployments", 100000, &list, err);
    if (rv < 0)
        return rv;
    if (json_array_size(list) == 0)
        return err_set(err, ERR_NOT_FOUND, "no deployment is under way");
    if (json_array_size(list) > 1)
        return err_set(err, ERR_INVALID, "%zu deployments are under way: name one (engine status)",
                       json_array_size(list));
    *ret = json_incref(json_object_get(json_array_get(list, 0), "id"));
    return 0;
}

static int act(const struct globals *g, struct client *c, const char *name, const char *id,
               const char *reason, struct err *err)
{
    AUTO_BUF path = BUF_INIT;
    AUTO_JSON *body = json_pack("{s:s,s:s}", "reason", reason, "actor", client_actor());
    AUTO_JSON *view = NULL, *found = NULL;
    int rv = id == NULL ? only_live(c, &found, err) : 0;

    if (rv < 0)
        return rv;
    buf_str_append(&path, "/v1/deployments/");
    client_path_segment(&path, id == NULL ? json_string_value(found) : id);
    buf_printf(&path, "/%s", name);
    rv = client_post(c, path.data, body, &view, err);
    if (rv < 0)
        return rv;
    if (g->json) {
        AUTO_FREE char *text = json_text(view);

        puts(text);
    } else {
        printf("%s %s: %s\n", json_string_value(json_object_get(view, "id")), name,
               json_string_value(json_object_get(view, "state")));
    }
    return 0;
}

int cli_act(int argc, char **argv)
{
    const char *name = argv[0], *reason = "";
    const struct flag flags[] = { { "reason", FLAG_TEXT, &reason, "TEXT",
                                    "why, for the audit log" } };
    AUTO_FREE char *usage = mem_printf("%s [--reason TEXT] [ID|SERVICE|SERVICE@SHA]", name);
    struct verb verb = { usage, "", flags, 1, 0, 1 };
    struct err err = ERR_INIT;
    struct client *c = NULL;
    struct globals g;
    int operands, code, rv;

    for (size_t i = 0; i < COUNT_OF(acts); i++)
        if (strcmp(acts[i].name, name) == 0)
            verb.about = acts[i].about;
    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    rv = client_open(&c, &g, &err);
    if (rv == 0)
        rv = act(&g, c, name, operands == 1 ? argv[0] : NULL, reason, &err);
    client_close(c);
    return rv < 0 ? fail(&g, &err) : EXIT_OK;
}
