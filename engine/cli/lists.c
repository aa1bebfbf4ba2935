/* engine queue - the jobs; engine regions - the regions. */
#include <stdio.h>
#include <stdlib.h>

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
static int print_list(const struct verb *verb, int argc, char **argv, const char *path,
                      const char *key, void (*print)(const json_t *o))
{
    struct err err = ERR_INIT;
    struct client *c = NULL;
    AUTO_JSON *answer = NULL;
    struct globals g;
    int operands, code, rv;
    size_t i;
    json_t *o;

    if (flags_parse(verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    rv = client_open(&c, &g, &err);
    if (rv == 0)
        rv = client_get(c, path, CALL_MS, &answer, &err);
    client_close(c);
    if (rv < 0)
        return fail(&g, &err);
    if (g.json) {
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

    return print_list(&verb, argc, argv, "/v1/jobs?limit=50", "jobs", print_job);
}

int cli_regions(int argc, char **argv)
{
    const struct verb verb = { "regions", "The regions and their machines.", NULL, 0, 0, 0 };

    return print_list(&verb, argc, argv, "/v1/regions", "regions", print_region);
}
