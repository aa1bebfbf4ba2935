#include "swarm/bucket.h"

static void fill(struct bucket *b, int64_t now_ms)
{
    double most = (double)b->rate * BUCKET_BURST_MS / 1000;

    if (now_ms > b->at_ms)
        b->tokens += (double)(now_ms - b->at_ms) * (double)b->rate / 1000;
    if (b->tokens > most)
        b->tokens = most;
    b->at_ms = now_ms;
}

void bucket_set(struct bucket *b, uint64_t rate, int64_t now_ms)
{
    fill(b, now_ms);
    b->rate = rate;
    if (rate == 0 || b->tokens > 0)
        b->tokens = 0;
}

int64_t bucket_wait_ms(struct bucket *b, int64_t now_ms)
{
    if (b->rate == 0)
        return 0;
    fill(b, now_ms);
    return b->tokens >= 0 ? 0 : (int64_t)(-b->tokens * 1000 / (double)b->rate) + 1;
}

void bucket_take(struct bucket *b, uint64_t bytes, int64_t now_ms)
{
    if (b->rate == 0)
        return;
    fill(b, now_ms);
    b->tokens -= (double)bytes;
}
