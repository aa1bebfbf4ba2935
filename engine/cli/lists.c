/* engine queue - the jobs; engine regions - the regions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "io/loop.h"

enum { CALL_MS = 10000 };

static void print_job(const json_t *j)
{
    printf("%6lld  %-20.20s %.7s  %-10s try %lld  %6llds ago  %s\n", int_of(j, "id"),
           text_of(j, "name"), text_of(j, "sha"), text_of(j, "status"), int_of(j, "attempt"),
           (long long)((wall_ms() - int_of(j, "created")) / 1000), text_of(j, "reason"));
}

static void print_region(const json_t *r)
{
    const json_t *machines = json_object_get(r, "machines");

    printf("%-20s %-10s %lld of %lld machines reachable\n", text_of(r, "name"),
           json_is_true(json_object_get(r, "connected")) ? "connected" : "away",
           int_of(machines, "reachable"), int_of(machines, "total"));
}

/* GET path, print each element of answer[key]. */
static int print_list(const struct globals *g, const char *path, const char *key,
                      void (*print)(const json_t *o))
{
    struct err err = ERR_INIT;
    struct client *c = NULL;
    AUTO_JSON *answer = NULL;
    int rv = client_open(&c, g, &err);
    size_t i;
    json_t *o;

    if (rv == 0)
        rv = client_get(c, path, CALL_MS, &answer, &err);
    client_close(c);
    if (rv < 0)
        return fail(g, &err);
    if (g->json) {
        AUTO_FREE char *text = json_text(answer);

        puts(text);
        return EXIT_OK;
    }
    json_array_foreach(json_object_get(answer, key), i, o) print(o);
    if (json_array_size(json_object_get(answer, key)) == 0)
        printf("no %s\n", key);
    return EXIT_OK;
}

int cli_queue(int argc, char **argv)
{
    const struct verb verb = { "queue", "The build jobs, newest first.", NULL, 0, 0, 0 };
    struct globals g;
    int operands, code;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    return print_list(&g, "/v1/jobs?limit=50", "jobs", print_job);
}

static int forget(const struct globals *g, const char *region, const char *reason, struct err *err)
{
    AUTO_JSON *body = json_pack("{s:s}", "reason", reason), *answer = NULL;
    AUTO_BUF path = BUF_INIT;
    struct client *c = NULL;
    int rv = client_open(&c, g, err);

    buf_str_append(&path, "/v1/regions/");
    client_path_segment(&path, region);
    buf_str_append(&path, "/forget");
    if (rv == 0)
        rv = client_post(c, path.data, body, &answer, err);
    client_close(c);
    if (rv < 0)
        return rv;
    if (g->json) {
        AUTO_FREE char *text = json_text(answer);

        puts(text);
    } else {
        printf("region %s is forgotten; if it comes back, it is a new one\n", region);
    }
    return 0;
}

int cli_regions(int argc, char **argv)
{
    const char *reason = "";
    const struct flag flags[] = { { "reason", FLAG_TEXT, &reason, "TEXT",
                                    "forget: why, for the audit log" } };
    const struct verb verb = { "regions [forget NAME]",
                               "The regions and their machines. forget: one that is gone for good; "
                               "nothing waits for it any "
                               "more,\nand what its machines ran is not kept for them.",
                               flags,
                               1,
                               0,
                               2 };
    struct err err = ERR_INIT;
    struct globals g;
    int operands, code;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    if (operands == 0)
        return print_list(&g, "/v1/regions", "regions", print_region);
    if (operands != 2 || strcmp(argv[0], "forget") != 0)
        (void)err_set(&err, ERR_INVALID,
                      "regions %s: not understood; it is `engine regions` or `engine "
                      "regions forget NAME`",
                      argv[0]);
    else if (forget(&g, argv[1], reason, &err) == 0)
        return EXIT_OK;
    return fail(&g, &err);
}
