/* engine logs ID - the build log of a deployment, or of a job by its number; engine events ID - what happened. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/terminal.h"

enum { CALL_MS = 30000, FOLLOW_WAIT_MS = 1000 };

static bool is_number(const char *text)
{
    for (; isdigit((unsigned char)*text); text++)
        ;
    return *text == '\0';
}

/* The job that built the deployment. */
static int job_of(struct client *c, const char *id, int64_t *ret, struct err *err)
{
    AUTO_JSON *view = NULL;
    AUTO_BUF path = BUF_INIT;
    const json_t *job;
    int rv;

    if (is_number(id)) {
        *ret = strtoll(id, NULL, 10);
        return 0;
    }
    buf_str_append(&path, "/v1/deployments/");
    client_path_segment(&path, id);
    rv = client_get(c, path.data, CALL_MS, &view, err);
    if (rv < 0)
        return rv;
    if (json_get_object(view, "job", &job, err) < 0)
        return err_set(err, ERR_NOT_FOUND, "%s has no build: its artifact was there already", id);
    return json_get_int(job, "id", 0, INT64_MAX, ret, err);
}

static int job_is_over(struct client *c, int64_t job, bool *ret, struct err *err)
{
    AUTO_FREE char *path = mem_printf("/v1/jobs/%lld", (long long)job);
    AUTO_JSON *o = NULL;
    const char *status;
    int rv = client_get(c, path, CALL_MS, &o, err);

    if (rv == 0)
        rv = json_get_text(o, "status", 64, &status, err);
    if (rv == 0)
        *ret = strcmp(status, "queued") != 0 && strcmp(status, "running") != 0;
    return rv;
}

/* Prints what is there from *offset on. */
static int print_more(struct client *c, int64_t job, int64_t *offset, bool *ret_more,
                      struct err *err)
{
    AUTO_FREE char *path =
        mem_printf("/v1/jobs/%lld/log?offset=%lld", (long long)job, (long long)*offset);
    AUTO_BUF text = BUF_INIT;
    int rv = client_text(c, path, &text, err);

    if (rv < 0)
        return rv;
    if (text.len > 0 && isatty(STDOUT_FILENO))
        terminal_tame(text.data, text.len);
    fwrite(buf_str(&text), 1, text.len, stdout);
    fflush(stdout);
    *offset += (int64_t)text.len;
    *ret_more = text.len > 0;
    return 0;
}

static int print_log(struct client *c, int64_t job, bool follow, struct err *err)
{
    struct timespec pause = { FOLLOW_WAIT_MS / 1000, FOLLOW_WAIT_MS % 1000 * 1000000L };
    bool over = false, more = true;
    int64_t offset = 0;
    int rv = 0;

    while (rv == 0 && (more || (follow && !over))) {
        if (!more)
            nanosleep(&pause, NULL);
        rv = job_is_over(c, job, &over, err);
        if (rv == 0)
            rv = print_more(c, job, &offset, &more, err);
    }
    return rv;
}

int cli_logs(int argc, char **argv)
{
    bool follow = false;
    const struct flag flags[] = { { "f", FLAG_BOOL, &follow, NULL, "follow it to its end" } };
    const struct verb verb = {
        "logs [-f] ID|JOB", "The log of a deployment's build.", flags, 1, 1, 1
    };
    struct err err = ERR_INIT;
    struct client *c = NULL;
    struct globals g;
    int64_t job = 0;
    int operands, code, rv;

    if (flags_parse(&verb, &g, argc, argv, &operands, &code) != 0)
        return code;
    rv = client_open(&c, &g, &err);
    if (rv == 0)
        rv = job_of(c, argv[0], &job, &err);
    if (rv == 0)
        rv = print_log(c, job, follow, &err);
    client_close(c);
    return rv < 0 ? fail(&g, &err) : EXIT_OK;
}

static void print_event(const struct globals *g, const json_t *event)
{
    const char *text = json_string_value(json_object_get(event, "text"));
    const char *deployment = json_string_value(json_object_get(event, "deployment"));
    int64_t at_ms = json_integer_value(json_object_get(event, "at"));
    time_t at_s = (time_t)(at_ms / 1000);
    struct tm tm;
    char when[32];

    if (g->json) {
        AUTO_FREE char *line = json_text(event);

        puts(line);
        return;
    }
    gmtime_r(&at_s, &tm);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    printf("%s %s %s\n", when, deployment == NULL ? "-" : deployment, text == NULL ? "" : text);
}

static int print_events(const struct globals *g, struct client *c, const char *id, bool follow,
                        struct err *err)
{
    AUTO_BUF base = BUF_INIT;
    int64_t seq = 0;
    bool over = false;

    buf_str_append(&base, id == NULL ? "/v1/events" : "/v1/deployments/");
    if (id != NULL) {
        client_path_segment(&base, id);
        buf_str_append(&base, "/events");
    }
    for (;;) {
        AUTO_FREE char *path =
            mem_printf("%s?after=%lld&wait=%d", base.data, (long long)seq, follow ? 10000 : 0);
        AUTO_JSON *answer = NULL;
        json_t *event, *list;
        size_t i;
        int rv = client_get(c, path, CALL_MS, &answer, err);

        if (rv < 0)
            return rv;
        list = json_object_get(answer, "events");
        json_array_foreach(list, i, event)
        {
            seq = json_integer_value(json_object_get(event, "seq"));
            print_event(g, event);
        }
        fflush(stdout);
        over = json_is_integer(json_object_get(json_object_get(answer, "deployment"), "finished"));
        if (json_array_size(list) == 0 && (!follow || over))
            return 0;
    }
}

int cli_events(int argc, char **argv)
{
    bool follow = false;
    const struct flag flags[] = { { "f", FLAG_BOOL, &follow, NULL, "follow" } };
    const struct verb verb = { "events [-f] [ID]",
                               "What happened: state changes and decisions, oldest first.",
                               flags,
                               1,
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
        rv = print_events(&g, c, operands == 1 ? argv[0] : NULL, follow, &err);
    client_close(c);
    return rv < 0 ? fail(&g, &err) : EXIT_OK;
}
