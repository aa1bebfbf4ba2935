/* curve.h - a distribution drawn as SVG: which share of all had come how far at which value. Pure. */
#ifndef CLI_CURVE_H
#define CLI_CURVE_H

#include <stddef.h>

#include "base/buf.h"

struct curve {
    const char *title;    /* plain text; escaped here */
    const char *x, *y;    /* what the axes show */
    const double *values; /* ascending */
    size_t count;
    double mark; /* a vertical line at that value; 0: none */
    const char *mark_name;
};

/* Appends a whole document; at most CURVE_POINTS of the values are drawn. */
enum { CURVE_POINTS = 1000 };
void curve_svg(struct buf *out, const struct curve *c);

#endif
