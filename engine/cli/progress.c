#include "cli/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/frame.h"
#include "io/loop.h"

struct progress {
    const struct globals *g;
    int rows; /* of the frame that stands on the screen */
    int64_t drawn_ms, beat_ms;
    bool final_drawn;
};

struct progress *progress_new(const struct globals *g)
{
    struct progress *p = mem_alloc(sizeof(*p));

    p->g = g;
    p->beat_ms = monotonic_ms();
    return p;
}

void progress_free(struct progress *p)
{
    free(p);
}

static void emit(const struct buf *out)
{
    size_t at = 0;

    while (at < out->len) {
        ssize_t n = write(2, out->data + at, out->len - at);

        if (n <= 0)
            return; /* nobody reads */
        at += (size_t)n;
    }
}

/* Goes up to where the frame began and clears from there. */
static void erase_frame(struct progress *p, struct buf *out)
{
    if (p->rows > 0)
        buf_printf(out, "\033[%dA\033[J", p->rows);
    p->rows = 0;
}

void progress_bytes(struct buf *out, int64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double n = (double)bytes;
    size_t unit = 0;

    while (n >= 1024 && unit + 1 < COUNT_OF(units)) {
        n /= 1024;
        unit++;
    }
    buf_printf(out, unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
}

void progress_note(struct progress *p, const char *fmt, ...)
{
    AUTO_BUF out = BUF_INIT;
    va_list args;

    if (p->g->progress == PROGRESS_QUIET || p->g->progress == PROGRESS_JSON)
        return;
    erase_frame(p, &out);
    va_start(args, fmt);
    buf_vprintf(&out, fmt, args);
    va_end(args);
    buf_char(&out, '\n');
    emit(&out);
}

static void clock_text(struct buf *out, int64_t at_ms)
{
    int64_t s = at_ms / 1000 % 86400;

    buf_printf(out, "%02d:%02d:%02dZ ", (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
}

void progress_event(struct progress *p, const json_t *event)
{
    AUTO_BUF out = BUF_INIT;
    const char *text = json_string_value(json_object_get(event, "text"));

    if (p->g->progress == PROGRESS_JSON) {
        AUTO_FREE char *line = json_text(event);

        buf_printf(&out, "%s\n", line);
        emit(&out);
    } else if (p->g->progress == PROGRESS_PLAIN && text != NULL) {
        clock_text(&out, json_integer_value(json_object_get(event, "at")));
        buf_printf(&out, "%s\n", text);
        emit(&out);
        p->beat_ms = monotonic_ms();
    }
}

static int columns_of_terminal(void)
{
    struct winsize size;

    if (ioctl(2, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return 80;
    return size.ws_col > 120 ? 120 : size.ws_col;
}

static int rows_of_terminal(void)
{
    struct winsize size;

    if (ioctl(2, TIOCGWINSZ, &size) < 0 || size.ws_row < 4)
        return FRAME_ROWS;
    return size.ws_row - 2 < FRAME_ROWS ? size.ws_row - 2 : FRAME_ROWS;
}

static int64_t elapsed_of(const json_t *view)
{
    const json_t *finished = json_object_get(view, "finished");
    int64_t end = json_is_integer(finished) ? json_integer_value(finished) : wall_ms();

    return end - json_integer_value(json_object_get(view, "created"));
}

/* The whole redraw is one synchronized update (DEC mode 2026), so that it does not flicker. */
static void draw(struct progress *p, const json_t *view)
{
    AUTO_BUF out = BUF_INIT, frame = BUF_INIT;

    frame_draw(&frame, view, p->g->color, columns_of_terminal(), rows_of_terminal(),
               elapsed_of(view));
    buf_str_append(&out, "\033[?2026h");
    erase_frame(p, &out);
    buf_append(&out, frame.data, frame.len);
    buf_str_append(&out, "\033[?2026l");
    emit(&out);
    for (size_t i = 0; i < frame.len; i++)
        p->rows += frame.data[i] == '\n';
}

static void beat(const json_t *view)
{
    const char *state = json_string_value(json_object_get(view, "state"));
    const char *waiting = json_string_value(json_object_get(view, "waiting_for"));
    AUTO_BUF out = BUF_INIT;

    clock_text(&out, wall_ms());
    buf_printf(&out, "%s for %llds, waiting for: %s\n", state == NULL ? "?" : state,
               (long long)(elapsed_of(view) / 1000), waiting == NULL ? "" : waiting);
    emit(&out);
}

void progress_view(struct progress *p, const json_t *view, int64_t now_ms)
{
    bool over = json_is_integer(json_object_get(view, "finished"));

    if (p->g->progress == PROGRESS_TTY && !p->final_drawn &&
        (over || now_ms - p->drawn_ms >= REDRAW_MS)) {
        draw(p, view);
        p->drawn_ms = now_ms;
        p->final_drawn = over;
    }
    if (p->g->progress == PROGRESS_PLAIN && !over && now_ms - p->beat_ms >= PROGRESS_BEAT_MS) {
        beat(view);
        p->beat_ms = now_ms;
    }
}
