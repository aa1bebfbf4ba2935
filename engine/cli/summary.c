#include "cli/summary.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cli/answer.h"
#include "cli/frame.h"
#include "cli/progress.h"
#include "cli/swarm_line.h"

static json_t *pick(const json_t *from, const char *const keys[])
{
    json_t *o = json_object();

    for (size_t i = 0; keys[i] != NULL; i++) {
        json_t *value = json_object_get(from, keys[i]);

        json_object_set(o, keys[i], value == NULL ? json_null() : value);
    }
    return o;
}

static json_t *pick_each(const json_t *list, const char *const keys[])
{
    json_t *out = json_array(), *o;
    size_t i;

    json_array_foreach(list, i, o) json_array_append_new(out, pick(o, keys));
    return out;
}

json_t *summary_json(const json_t *view)
{
    static const char *const top[] = { "service", "commit",   "state",         "reason", "bytes",
                                       "seconds", "failures", "nothing_to_do", "swarm",  NULL };
    static const char *const machines[] = { "total", "healthy", "failed", "drift", NULL };
    static const char *const regions[] = { "name", "replicated", "machines", NULL };
    static const char *const artifacts[] = { "variant", "digest", "bytes", "pack_bytes", NULL };
    static const char *const deltas[] = { "variant", "base",   "machines", "state",        "bytes",
                                          "reason",  "packed", "npacked",  "packed_bytes", NULL };
    json_t *o = pick(view, top);

    json_object_set_new(o, "v", json_integer(1));
    json_object_set(o, "deployment", json_object_get(view, "id"));
    json_object_set_new(o, "machines", pick(json_object_get(view, "machines"), machines));
    json_object_set_new(o, "regions", pick_each(json_object_get(view, "regions"), regions));
    json_object_set_new(o, "artifacts", pick_each(json_object_get(view, "artifacts"), artifacts));
    json_object_set_new(o, "deltas", pick_each(json_object_get(view, "deltas"), deltas));
    json_object_set(o, "exit", json_object_get(view, "exit"));
    return o;
}

static double seconds_of(const json_t *view, const char *key)
{
    return json_number_value(json_object_get(json_object_get(view, "seconds"), key));
}

static void print_failures(const json_t *view)
{
    const char *log = text_of(view, "failed_step_log");
    size_t i;
    json_t *f;

    json_array_foreach(json_object_get(view, "failures"), i, f) printf(
        "  %s (%s): %s\n", text_of(f, "machine"), text_of(f, "region"), text_of(f, "reason"));
    if (*log != '\0')
        printf("the end of the build's log:\n%s%s", log, log[strlen(log) - 1] == '\n' ? "" : "\n");
}

static void print_bytes(const json_t *view)
{
    static const char *const keys[] = { "origin", "seed", "peer", "saved_by_delta" };
    static const char *const words[] = { " from the origin store", " from region nodes",
                                         " from each other", " saved" };
    const json_t *bytes = json_object_get(view, "bytes");
    AUTO_BUF line = BUF_INIT;

    for (size_t i = 0; i < 4; i++) {
        if (i == 3 && int_of(bytes, keys[i]) == 0)
            break;
        buf_str_append(&line, i == 0 ? "  bytes: " : ", ");
        progress_bytes(&line, int_of(bytes, keys[i]));
        buf_str_append(&line, words[i]);
    }
    puts(buf_str(&line));
}

static void print_size(const char *before, int64_t bytes, const char *after)
{
    AUTO_BUF text = BUF_INIT;

    progress_bytes(&text, bytes);
    printf("%s%s%s", before, buf_str(&text), after);
}

/* The pack of the delta's variant that it stands for. */
static int64_t full_bytes(const json_t *view, const json_t *delta)
{
    json_t *a;
    size_t i;

    json_array_foreach(json_object_get(view, "artifacts"), i, a)
    {
        if (strcmp(text_of(a, "variant"), text_of(delta, "variant")) == 0)
            return int_of(a, "pack_bytes");
    }
    return 0;
}

/* What could not be saved, once: it is the same whatever the base is, or nearly. */
static void print_packed(const json_t *delta)
{
    const json_t *names = json_object_get(delta, "packed");
    long long more = int_of(delta, "npacked") - (long long)json_array_size(names);
    size_t i;
    json_t *one;

    json_array_foreach(names, i, one)
    {
        printf("  %s", text_of(one, "path"));
        print_size(" (", int_of(one, "bytes"), ") is compressed: a delta of it can't help\n");
    }
    if (more > 0) {
        printf("  and so %s %lld more, ", more == 1 ? "is" : "are", more);
        print_size("", int_of(delta, "packed_bytes"), " in all\n");
    }
}

static void print_deltas(const json_t *view)
{
    json_t *delta;
    size_t i;

    json_array_foreach(json_object_get(view, "deltas"), i, delta)
    {
        const char *state = text_of(delta, "state");

        printf("  delta of %s from %.12s", text_of(delta, "variant"), text_of(delta, "base"));
        if (int_of(delta, "machines") > 0)
            printf(" (%lld machine%s ran it)", int_of(delta, "machines"),
                   int_of(delta, "machines") == 1 ? "" : "s");
        if (strcmp(state, "ready") == 0) {
            print_size(": ", int_of(delta, "bytes"), " instead of ");
            print_size("", full_bytes(view, delta), "\n");
        } else if (strcmp(state, "none") == 0) {
            printf(": none: %s\n", text_of(delta, "reason"));
        } else {
            printf(": is being made\n");
        }
    }
    print_packed(json_array_get(json_object_get(view, "deltas"), 0));
}

static void print_swarm(const json_t *view)
{
    AUTO_BUF line = BUF_INIT;

    swarm_line(&line, json_object_get(view, "swarm"));
    if (line.len > 0)
        printf("  swarm: %s\n", buf_str(&line));
}

static void print_text(const json_t *view)
{
    const json_t *machines = json_object_get(view, "machines");
    const char *reason = text_of(view, "reason"), *state = text_of(view, "state");

    printf("%s %.12s: %s%s%s\n", text_of(view, "service"), text_of(view, "commit"), state,
           *reason == '\0' ? "" : ": ", reason);
    printf("  %s: %lld of %lld machines healthy", text_of(view, "id"), int_of(machines, "healthy"),
           int_of(machines, "total"));
    if (int_of(machines, "failed") > 0)
        printf(", %lld failed", int_of(machines, "failed"));
    printf("\n  seconds: build %.1f, replicate %.1f, stage %.1f, rollout %.1f, total %.1f\n",
           seconds_of(view, "build"), seconds_of(view, "replicate"), seconds_of(view, "stage"),
           seconds_of(view, "rollout"), seconds_of(view, "total"));
    print_bytes(view);
    print_swarm(view);
    print_deltas(view);
    print_failures(view);
    if (json_is_null(json_object_get(view, "finished")))
        printf("  you can: %s\n", frame_what_to_do(state));
}

int summary_print(const struct globals *g, const json_t *view, int live)
{
    const json_t *ended = json_object_get(view, "exit");
    int code = json_is_integer(ended) ? (int)json_integer_value(ended) : live;

    if (g->json) {
        json_t *o = summary_json(view);

        json_object_set_new(o, "exit", json_integer(code));
        json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(o);
    } else {
        print_text(view);
    }
    fflush(stdout);
    return code;
}
