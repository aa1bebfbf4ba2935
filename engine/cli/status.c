/* engine status [ID] - one deployment as it is now, or the latest ones. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/frame.h"
#include "cli/progress.h"
#include "cli/summary.h"
#include "io/loop.h"

enum { STATUS_COLUMNS = 100, STATUS_ROWS = 200, CALL_MS = 10000 };

static int show_one(const struct globals *g, struct client *c, const char *id, struct err *err)
{
    AUTO_JSON *view = NULL;
    AUTO_BUF path = BUF_INIT, out = BUF_INIT;
    int64_t end_ms;
    int rv;

    buf_str_append(&path, "/v1/deployments/");
    client_path_segment(&path, id);
    rv = client_get(c, path.data, CALL_MS, &view, err);
    if (rv < 0)
        return rv;
    if (g->json) {
        AUTO_FREE char *text = json_text(view);

        puts(text);
        return 0;
    }
    end_ms = json_is_integer(json_object_get(view, "finished"))
                 ? json_integer_value(json_object_get(view, "finished"))
                 : wall_ms();
    frame_draw(&out, view, false, STATUS_COLUMNS, STATUS_ROWS,
               end_ms - json_integer_value(json_object_get(view, "created")));
    fputs(buf_str(&out), stdout);
    return 0;
}

static void print_line(const json_t *d)
{
    const json_t *machines = json_object_get(d, "machines");
    int64_t age_s = (wall_ms() - json_integer_value(json_object_get(d, "created"))) / 1000;

    printf("%-10s  %-20.20s %.7s  %-12s %5lld/%-5lld  %6llds ago  %s\n", text_of(d, "id"),
           text_of(d, "service"), text_of(d, "commit"), text_of(d, "state"),
           (long long)json_integer_value(json_object_get(machines, "healthy")),
           (long long)json_integer_value(json_object_get(machines, "total")), (long long)age_s,
           text_of(d, "reason"));
}

static int show_list(const struct globals *g, struct client *c, struct err *err)
{
    AUTO_JSON *answer = NULL;
    size_t i;
    json_t *d;
    int rv = client_get(c, "/v1/deployments?limit=20", CALL_MS, &answer, err);

    if (rv < 0)
        return rv;
    if (g->json) {
        AUTO_FREE char *text = json_text(answer);

        puts(text);
        return 0;
    }
    json_array_foreach(json_object_get(answer, "deployments"), i, d) print_line(d);
    if (json_array_size(json_object_get(answer, "deployments")) == 0)
        puts("no deployments yet");
    return 0;
}

int cli_status(int argc, char **argv)
{
    const struct verb verb = { "status [ID|SERVICE|SERVICE@SHA]",
                               "One deployment as it is now, or the latest ones.",
                               NULL,
                               0,
                               0,
                               1 };
    struct err err = ERR_INIT;
    struct client *c = NULL;
    struct globals g;
    int operands, code, rv;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    rv = client_open(&c, &g, &err);
    if (rv == 0)
        rv = operands == 1 ? show_one(&g, c, argv[0], &err) : show_list(&g, c, &err);
    client_close(c);
    return rv < 0 ? fail(&g, &err) : EXIT_OK;
}
