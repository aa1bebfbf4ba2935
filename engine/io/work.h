/* work.h - a pool of threads for what blocks: disk, hashing, zstd, SQL, git.
 *
 * The caller embeds a struct work. run() is called on a pool thread and must not touch the loop;
 * done() is called on the loop when run() has returned, exactly once, never from inside
 * work_submit(). Jobs start in order of submission. */
#ifndef IO_WORK_H
#define IO_WORK_H

#include "io/loop.h"

struct work {
    void (*run)(struct work *w);
    void (*done)(struct work *w);
    struct work_pool *pool; /* private from here on */
    struct list node;
};

struct work_pool;

MUST_CHECK int work_pool_new(struct work_pool **ret, struct loop *l, int threads, struct err *err);

/* threads: 1 to 64. Free: on the loop's thread, also from a done(); waits for what runs, drops what
 * has not started, and calls no done() any more. */
void work_pool_free(struct work_pool *p);
void work_submit(struct work_pool *p, struct work *w);

#endif
