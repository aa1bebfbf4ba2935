#include "cli/curve.h"

#include <math.h>

enum { WIDTH = 720, HEIGHT = 420, LEFT = 64, RIGHT = 24, TOP = 48, BOTTOM = 56, TICKS = 6 };

struct frame {
    double from, to; /* of the x axis */
};

static void put_text(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '&')
            buf_str_append(out, "&amp;");
        else if (*text == '<')
            buf_str_append(out, "&lt;");
        else
            buf_append(out, text, 1);
    }
}

static double x_of(const struct frame *f, double value)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - f->from) / (f->to - f->from);
}

static double y_of(double share)
{
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
}

static void put_label(struct buf *out, double x, double y, const char *anchor, const char *text)
{
    buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    put_text(out, text);
    buf_str_append(out, "</text>\n");
}

static void put_line(struct buf *out, double x1, double y1, double x2, double y2, const char *color)
{
    buf_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1,
               y1, x2, y2, color);
}

/* 1, 2 or 5 times a power of ten, so that about TICKS fit. */
static double tick_step(const struct frame *f)
{
    double step = pow(10, floor(log10((f->to - f->from) / TICKS)));
    double n = (f->to - f->from) / TICKS / step;

    return step * (n <= 1 ? 1 : n <= 2 ? 2 : n <= 5 ? 5 : 10);
}

static void put_axes(struct buf *out, const struct curve *c, const struct frame *f)
{
    double step = tick_step(f);

    for (int i = 0; i <= 4; i++) {
        AUTO_BUF label = BUF_INIT;

        buf_printf(&label, "%d %%", i * 25);
        put_line(out, LEFT, y_of(i / 4.0), WIDTH - RIGHT, y_of(i / 4.0), "#ddd");
        put_label(out, LEFT - 8, y_of(i / 4.0) + 4, "end", buf_str(&label));
    }
    for (double v = ceil(f->from / step) * step; v <= f->to * 1.000001; v += step) {
        AUTO_BUF label = BUF_INIT;

        buf_printf(&label, "%.6g", v);
        put_line(out, x_of(f, v), TOP, x_of(f, v), HEIGHT - BOTTOM, "#eee");
        put_label(out, x_of(f, v), HEIGHT - BOTTOM + 18, "middle", buf_str(&label));
    }
    put_label(out, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14, "middle", c->x);
    put_label(out, LEFT, TOP - 10, "start", c->y);
    put_label(out, (LEFT + WIDTH - RIGHT) / 2.0, 20, "middle", c->title);
}

static void put_curve(struct buf *out, const struct curve *c, const struct frame *f)
{
    size_t points = c->count < CURVE_POINTS ? c->count : CURVE_POINTS;

    buf_printf(out,
               "<polyline fill=\"none\" stroke=\"#2563eb\" stroke-width=\"2\" points=\"%.1f,%.1f",
               x_of(f, c->values[0]), y_of(0));
    for (size_t i = 0; i < points; i++) {
        size_t k = points == 1 ? 0 : i * (c->count - 1) / (points - 1);

        buf_printf(out, " %.1f,%.1f", x_of(f, c->values[k]),
                   y_of((double)(k + 1) / (double)c->count));
    }
    buf_printf(out, " %.1f,%.1f\"/>\n", (double)(WIDTH - RIGHT), y_of(1));
}

void curve_svg(struct buf *out, const struct curve *c)
{
    struct frame f = { 0, 1 };

    if (c->count > 0) {
        double span = c->values[c->count - 1] - c->values[0];
        double margin = span > 0 ? span * 0.08 : 0.05 * fabs(c->values[0]) + 1e-9;

        f.from = c->values[0] - margin;
        f.to = c->values[c->count - 1] + margin;
        if (c->mark > 0 && c->mark < f.from)
            f.from = c->mark - margin;
        if (c->mark > f.to)
            f.to = c->mark + margin;
    }
    buf_printf(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
               "font-family=\"sans-serif\" font-size=\"12\">\n"
               "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
               WIDTH, HEIGHT, WIDTH, HEIGHT);
    put_axes(out, c, &f);
    if (c->mark > 0) {
        put_line(out, x_of(&f, c->mark), TOP, x_of(&f, c->mark), HEIGHT - BOTTOM, "#dc2626");
        put_label(out, x_of(&f, c->mark) + 4, TOP + 12, "start", c->mark_name);
    }
    if (c->count > 0)
        put_curve(out, c, &f);
    buf_str_append(out, "</svg>\n");
}
