/* bench_queue URL JOBS THREADS - how many jobs a second go from claim to finish, each its own durable
 * commits, over connections of their own. Empties the queue's tables first: not for a live database. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/loop.h"
#include "queue/queue.h"

enum { THREADS_MAX = 256 };

struct cycler {
    pthread_t thread;
    const char *url;
    int number;
    int64_t done;
    struct err err;
};

static void die(const struct err *err)
{
    fprintf(stderr, "bench_queue: %s\n", err->text);
    exit(1);
}

static int one(struct db *d, struct cycler *c, struct job **ret, struct err *err)
{
    AUTO_FREE char *token = mem_printf("%d-%" PRId64, c->number, c->done);
    int r = queue_claim(d, "bench", token, ret, err);

    if (r < 0 || *ret == NULL)
        return r;
    return queue_finish(d, (*ret)->id, (*ret)->attempt, JOB_SUCCEEDED, "{}", "", NULL, err);
}

static void *cycle(void *arg)
{
    struct cycler *c = arg;
    struct db *d;
    struct job *j = NULL;

    if (db_open(&d, c->url, &c->err) < 0)
        return NULL;
    while (one(d, c, &j, &c->err) == 0 && j != NULL) {
        job_free(j);
        c->done++;
    }
    db_close(d);
    return NULL;
}

struct fill {
    int64_t jobs;
};

static int fill(struct db *d, void *arg, struct err *err)
{
    const struct fill *f = arg;
    int r = DB_EXEC(d, err, "DELETE FROM job");
    int64_t id;

    for (int64_t i = 0; i < f->jobs && r == 0; i++)
        r = queue_enqueue(d, "bench", "0123456789012345678901234567890123456789", "{\"v\":1}", NULL,
                          900000, &id, err);
    return r;
}

static void prepare(const char *url, int64_t jobs)
{
    struct err err = ERR_INIT;
    struct fill f = { jobs };
    struct db *d;

    if (db_open(&d, url, &err) < 0 || db_migrate(d, &err) < 0 ||
        db_transaction(d, fill, &f, &err) < 0)
        die(&err);
    db_close(d);
}

int main(int argc, char **argv)
{
    struct cycler cyclers[THREADS_MAX] = { 0 };
    int64_t jobs, started, took, done = 0;
    long threads;

    if (argc != 4) {
        fprintf(stderr, "usage: bench_queue URL JOBS THREADS\n");
        return 2;
    }
    jobs = strtoll(argv[2], NULL, 10);
    threads = strtol(argv[3], NULL, 10);
    if (jobs < 1 || threads < 1 || threads > THREADS_MAX)
        return 2;
    prepare(argv[1], jobs);
    started = monotonic_ms();
    for (int i = 0; i < threads; i++) {
        cyclers[i].url = argv[1];
        cyclers[i].number = i;
        if (pthread_create(&cyclers[i].thread, NULL, cycle, &cyclers[i]) != 0)
            return 1;
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(cyclers[i].thread, NULL);
        if (cyclers[i].err.code != ERR_NONE)
            die(&cyclers[i].err);
        done += cyclers[i].done;
    }
    took = monotonic_ms() - started;
    printf("%" PRId64 " jobs, %ld threads, %.2f s, %.0f jobs/s\n", done, threads,
           (double)took / 1000, (double)done * 1000 / (double)(took == 0 ? 1 : took));
    return done == jobs ? 0 : 1;
}
