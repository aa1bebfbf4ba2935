#include "cli/frame.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/answer.h"
#include "cli/progress.h"
#include "cli/swarm_line.h"

enum { ROW_MAX = 400, WAVES_SHOWN = 6, BAR_CELLS = 20 };

struct painter {
    struct buf *out;
    bool color;
    int columns, rows_left;
};

/* One row: cut at the right edge, painted as a whole. paint: "32" green, "31" red, "2" faint, or "". */
static void row(struct painter *p, const char *paint, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void row(struct painter *p, const char *paint, const char *fmt, ...)
{
    char text[ROW_MAX];
    va_list args;
    size_t max = (size_t)(p->columns > 1 ? p->columns - 1 : 1);

    if (p->rows_left <= 0)
        return;
    p->rows_left--;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (strlen(text) > max)
        text[max] = '\0';
    if (p->color && *paint != '\0')
        buf_printf(p->out, "\033[%sm%s\033[0m\n", paint, text);
    else
        buf_printf(p->out, "%s\n", text);
}

struct mark {
    const char *text, *paint;
};

static struct mark mark_of(bool done, bool running, bool bad)
{
    if (bad)
        return (struct mark){ "!!", "31" };
    if (done)
        return (struct mark){ "ok", "32" };
    return running ? (struct mark){ ">>", "" } : (struct mark){ "..", "2" };
}

static bool is_state(const json_t *view, const char *state)
{
    return strcmp(text_of(view, "state"), state) == 0;
}

static void draw_head(struct painter *p, const json_t *view, int64_t elapsed_ms)
{
    const json_t *machines = json_object_get(view, "machines");

    row(p, "1", "%s %.7s -> %lld machines, %zu regions   %s   %llds", text_of(view, "service"),
        text_of(view, "commit"), int_of(machines, "total"),
        json_array_size(json_object_get(view, "regions")), text_of(view, "id"),
        (long long)(elapsed_ms / 1000));
}

static void draw_build(struct painter *p, const json_t *view)
{
    const json_t *job = json_object_get(view, "job"),
                 *artifacts = json_object_get(view, "artifacts");
    const char *status = text_of(job, "status");
    struct mark m = mark_of(strcmp(status, "succeeded") == 0, strcmp(status, "running") == 0,
                            strcmp(status, "failed") == 0);
    AUTO_BUF size = BUF_INIT;
    int64_t bytes = 0;
    size_t i;
    json_t *a;

    json_array_foreach(artifacts, i, a) bytes += int_of(a, "bytes");
    if (json_array_size(artifacts) > 0) {
        buf_printf(&size, "%zu artifact%s, ", json_array_size(artifacts),
                   json_array_size(artifacts) == 1 ? "" : "s");
        progress_bytes(&size, bytes);
    }
    row(p, m.paint, " %s build      %6.1fs  %s%s", m.text,
        number_of(json_object_get(view, "seconds"), "build"),
        size.len > 0 ? buf_str(&size) : status,
        int_of(job, "attempt") > 1 ? "  (taken over from a lost worker)" : "");
}

static void draw_replicate(struct painter *p, const json_t *view)
{
    const json_t *regions = json_object_get(view, "regions");
    size_t total = json_array_size(regions), done = 0, i;
    struct mark m;
    json_t *r;

    json_array_foreach(regions, i, r) done += json_is_true(json_object_get(r, "replicated"));
    m = mark_of(total > 0 && done == total, is_state(view, "replicating"), false);
    row(p, m.paint, " %s replicate  %6.1fs  %zu/%zu regions verified", m.text,
        number_of(json_object_get(view, "seconds"), "replicate"), done, total);
}

static void draw_bar(char out[BAR_CELLS + 1], int64_t part, int64_t whole)
{
    int64_t full = whole > 0 ? part * BAR_CELLS / whole : 0;

    for (int i = 0; i < BAR_CELLS; i++)
        out[i] = i < full ? '#' : '-';
    out[BAR_CELLS] = '\0';
}

static void draw_stage(struct painter *p, const json_t *view)
{
    const json_t *bytes = json_object_get(view, "bytes");
    int64_t staged = 0, total = int_of(json_object_get(view, "machines"), "total");
    int64_t peer = int_of(bytes, "peer"), seed = int_of(bytes, "seed");
    char bar[BAR_CELLS + 1];
    struct mark m;
    size_t i;
    json_t *r;

    json_array_foreach(json_object_get(view, "regions"), i, r) staged += int_of(r, "staged");
    m = mark_of(total > 0 && staged >= total, staged > 0, false);
    draw_bar(bar, staged, total);
    row(p, m.paint, " %s stage      %6.1fs  [%s] %lld/%lld  %lld%% from peers", m.text,
        number_of(json_object_get(view, "seconds"), "stage"), bar, (long long)staged,
        (long long)total, (long long)(peer + seed > 0 ? peer * 100 / (peer + seed) : 0));
}

static void draw_wave(struct painter *p, const json_t *w)
{
    const char *state = text_of(w, "state");
    struct mark m = mark_of(strcmp(state, "done") == 0,
                            strcmp(state, "open") == 0 || strcmp(state, "baking") == 0,
                            strcmp(state, "failed") == 0 || int_of(w, "bad") > 0);
    char more[64] = "";

    if (int_of(w, "bad") > 0)
        snprintf(more, sizeof(more), "  %lld bad", int_of(w, "bad"));
    else if (strcmp(state, "baking") == 0)
        snprintf(more, sizeof(more), "  %lld/%llds", int_of(w, "baked"), int_of(w, "bake"));
    row(p, m.paint, "    %s %lld %-14.14s %6lld/%-6lld %s%s", m.text, int_of(w, "index"),
        text_of(w, "name"), int_of(w, "healthy"), int_of(w, "total"), state, more);
}

static void draw_swarm(struct painter *p, const json_t *view)
{
    AUTO_BUF line = BUF_INIT;

    swarm_line(&line, json_object_get(view, "swarm"));
    if (line.len > 0)
        row(p, "", "    swarm %s", buf_str(&line));
}

/* The waves around the open one; the others are counted. */
static void draw_waves(struct painter *p, const json_t *view)
{
    const json_t *waves = json_object_get(view, "waves");
    size_t count = json_array_size(waves), first = 0, done = 0, i;
    json_t *w;

    json_array_foreach(waves, i, w) done += strcmp(text_of(w, "state"), "done") == 0;
    if (count == 0)
        return;
    if (count > WAVES_SHOWN && done > 1)
        first = done - 1 < count - WAVES_SHOWN ? done - 1 : count - WAVES_SHOWN;
    for (i = first; i < count && i < first + WAVES_SHOWN; i++)
        draw_wave(p, json_array_get(waves, i));
    if (count > WAVES_SHOWN)
        row(p, "2", "    .. %zu of %zu waves shown", (size_t)WAVES_SHOWN, count);
}

static void draw_regions(struct painter *p, const json_t *view)
{
    AUTO_BUF line = BUF_INIT;
    size_t i;
    json_t *r;

    json_array_foreach(json_object_get(view, "regions"), i, r)
    {
        buf_printf(&line, "  %s %lld/%lld%s", text_of(r, "name"), int_of(r, "healthy"),
                   int_of(r, "machines"),
                   json_is_false(json_object_get(r, "connected")) ? " (away)" : "");
    }
    if (line.len > 0)
        row(p, "", "%s", buf_str(&line));
}

static void draw_failures(struct painter *p, const json_t *view)
{
    size_t i;
    json_t *f;

    json_array_foreach(json_object_get(view, "failures"), i, f)
    {
        if (i == 2)
            break;
        row(p, "31", " !! %s: %s", text_of(f, "machine"), text_of(f, "reason"));
    }
}

const char *frame_what_to_do(const char *state)
{
    if (strcmp(state, "held") == 0)
        return "engine resume, promote, rollback or abort";
    if (strcmp(state, "rolling") == 0)
        return "engine pause, rollback or abort";
    if (strcmp(state, "queued") == 0 || strcmp(state, "building") == 0 ||
        strcmp(state, "replicating") == 0)
        return "engine abort";
    return "";
}

static void draw_foot(struct painter *p, const json_t *view)
{
    const char *state = text_of(view, "state"), *waiting = text_of(view, "waiting_for");
    bool good = is_state(view, "succeeded");

    if (!json_is_null(json_object_get(view, "finished")))
        row(p, good ? "32" : "31", " %s: %s", state, text_of(view, "reason"));
    else if (*waiting != '\0')
        row(p, is_state(view, "held") || is_state(view, "rolling_back") ? "33" : "",
            " %s, waiting for: %s", state, waiting);
    else
        row(p, "", " %s", state);
}

void frame_draw(struct buf *out, const json_t *view, bool color, int columns, int max_rows,
                int64_t elapsed_ms)
{
    struct painter p = { out, color, columns, max_rows };

    draw_head(&p, view, elapsed_ms);
    draw_build(&p, view);
    draw_replicate(&p, view);
    draw_stage(&p, view);
    draw_swarm(&p, view);
    draw_waves(&p, view);
    draw_regions(&p, view);
    draw_failures(&p, view);
    draw_foot(&p, view);
}
