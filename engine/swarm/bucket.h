/* bucket.h - a token bucket: how many bytes may go now, so that a rate is kept. Pure.
 *
 *     if (bucket_wait_ms(&b, now) == 0)
 *         bucket_take(&b, bytes, now), send them
 *
 * Units may be larger than the bucket: taking leaves a debt, and nothing more goes until it is paid.
 * Over any time t at most rate * t + BUCKET_BURST_MS of rate + one unit goes. */
#ifndef SWARM_BUCKET_H
#define SWARM_BUCKET_H

#include <stdint.h>

enum { BUCKET_BURST_MS = 100 };

struct bucket {
    uint64_t rate; /* bytes a second; 0: no limit */
    double tokens; /* bytes; < 0: a debt */
    int64_t at_ms;
};

/* Also while it is in use: a debt stays, what was saved up does not. */
void bucket_set(struct bucket *b, uint64_t rate, int64_t now_ms);
int64_t bucket_wait_ms(struct bucket *b, int64_t now_ms); /* 0: now */
void bucket_take(struct bucket *b, uint64_t bytes, int64_t now_ms);

#endif
