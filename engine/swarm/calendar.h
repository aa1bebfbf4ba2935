/* calendar.h - what will happen when, in virtual time: the simulator's queue of events. Pure.
 *
 *     id = calendar_put(c, at, (struct calendar_event){ kind, a, b, c, d })
 *     calendar_move(c, id, later)          a transfer became slower
 *     while (calendar_next(c, &at, &event)) …
 *
 * Events of one instant come in the order in which they were put (or moved) there, so that a run is
 * determined by its seed alone. An id is valid until its event is taken or dropped; then it is used
 * again. Times are nanoseconds from 0 on, and none is put before the one that was taken last. A call
 * costs a few operations.
 *
 * Source: Brown, "Calendar queues", Communications of the ACM, 1988. */
#ifndef SWARM_CALENDAR_H
#define SWARM_CALENDAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CALENDAR_EVENTS_MAX = 1 << 24, /* waiting at a time */
};

#define CALENDAR_NEVER INT64_MAX /* an event at that time is kept, but never comes */

struct calendar_event {
    uint32_t kind, a, b, c, d; /* whatever they mean to the user */
};

struct calendar;

struct calendar *calendar_new(void);
void calendar_free(struct calendar *c);

uint32_t calendar_put(struct calendar *c, int64_t at_ns, const struct calendar_event *e);
void calendar_move(struct calendar *c, uint32_t id, int64_t at_ns);
void calendar_drop(struct calendar *c, uint32_t id);

/* Takes the next one; false: nothing will happen any more. */
bool calendar_next(struct calendar *c, int64_t *ret_at_ns, struct calendar_event *ret);

/* What will probably be taken so many events after the next one (0: the next one itself), to have at
 * hand what it needs; NULL: that is not known yet. Borrowed until the next call. */
const struct calendar_event *calendar_peek(const struct calendar *c, size_t ahead);

#endif
