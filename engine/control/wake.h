/* wake.h - hints inside of one process that the database has changed.
 *
 * Polling is the truth; a wake only makes it happen sooner. Everybody who wrote calls wake_all();
 * threads wait with wake_wait(), a loop is poked through its hook. From any thread. */
#ifndef CONTROL_WAKE_H
#define CONTROL_WAKE_H

#include <stdbool.h>
#include <stdint.h>

struct wake;

struct wake *wake_new(void);
void wake_free(struct wake *w);
/* fn(arg) is called by wake_all() on the caller's thread; it must be quick. One hook. */
void wake_set_hook(struct wake *w, void (*fn)(void *arg), void *arg);
void wake_all(struct wake *w);
/* Ends every wait now and in the future. */
void wake_stop(struct wake *w);
bool wake_stopped(struct wake *w);
/* Until something happened after *seen, or max_ms have passed; updates *seen. */
void wake_wait(struct wake *w, uint64_t *seen, int64_t max_ms);

#endif
