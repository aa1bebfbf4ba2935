/* progress.h - a deployment as it goes, on standard error: per wave and region, never per machine.
 *
 * tty: a frame of at most FRAME_ROWS rows, redrawn in place in one write, at most 5 times a second.
 * plain: one line per event, and every PROGRESS_BEAT_MS a line that says what is waited for.
 * json: the events, one object a line. quiet: nothing. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "base/buf.h"
#include "cli/flags.h"
#include "wire/json.h"

enum { FRAME_ROWS = 16, PROGRESS_BEAT_MS = 10000, REDRAW_MS = 200 };

struct progress;

struct progress *progress_new(const struct globals *g);
/* A line of our own, e.g. that the fleet is being started. */
void progress_note(struct progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One event of the control plane's log. */
void progress_event(struct progress *p, const json_t *event);
/* The deployment as it is now (a VIEW of the API). Cheap when nothing is due. */
void progress_view(struct progress *p, const json_t *view, int64_t now_ms);
/* Leaves the last frame standing. */
void progress_free(struct progress *p);

/* "1.8 GiB" */
void progress_bytes(struct buf *out, int64_t bytes);

#endif
