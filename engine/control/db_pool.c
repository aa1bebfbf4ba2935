#include "control/db_pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"

enum { IDLE_MAX = 16 };

struct db_pool {
    pthread_mutex_t mutex;
    char *url;
    struct db *idle[IDLE_MAX];
    size_t nidle;
};

struct db_pool *db_pool_new(const char *url)
{
    struct db_pool *p = mem_alloc(sizeof(*p));

    pthread_mutex_init(&p->mutex, NULL);
    p->url = mem_strdup(url);
    return p;
}

void db_pool_free(struct db_pool *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->nidle; i++)
        db_close(p->idle[i]);
    pthread_mutex_destroy(&p->mutex);
    free(p->url);
    free(p);
}

int db_pool_take(struct db_pool *p, struct db **ret, struct err *err)
{
    struct db *d = NULL;

    pthread_mutex_lock(&p->mutex);
    if (p->nidle > 0)
        d = p->idle[--p->nidle];
    pthread_mutex_unlock(&p->mutex);
    if (d == NULL)
        return db_open(ret, p->url, err);
    *ret = d;
    return 0;
}

void db_pool_give(struct db_pool *p, struct db *d)
{
    if (d == NULL)
        return;
    pthread_mutex_lock(&p->mutex);
    if (p->nidle < IDLE_MAX) {
        p->idle[p->nidle++] = d;
        d = NULL;
    }
    pthread_mutex_unlock(&p->mutex);
    db_close(d);
}
