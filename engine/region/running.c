#include "region/running.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct running_service {
    struct msg_running *releases; /* none has 0 machines */
    size_t n, cap;
    bool changed;
};

void running_release(struct running *r)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->services, &i)) != NULL;) {
        struct running_service *s = e->value;

        free(s->releases);
        free(s);
    }
    map_release(&r->services);
}

static struct msg_running *find(const struct running_service *s, const struct hash *release)
{
    for (size_t i = 0; s != NULL && i < s->n; i++) {
        if (hash_equal(&s->releases[i].release, release))
            return &s->releases[i];
    }
    return NULL;
}

static void take_off(struct running_service *s, const struct hash *release)
{
    struct msg_running *one = find(s, release);

    if (one != NULL && --one->machines == 0)
        *one = s->releases[--s->n];
}

static void put_on(struct running_service *s, const struct hash *release)
{
    struct msg_running *one = find(s, release);

    if (one == NULL) {
        VEC_GROW(s->releases, s->n, s->cap);
        one = &s->releases[s->n++];
        *one = (struct msg_running){ *release, 0 };
    }
    one->machines++;
}

static void changed(struct running *r, struct running_service *s)
{
    r->nchanged += !s->changed;
    s->changed = true;
}

static struct running_service *service_of(struct running *r, const char *name)
{
    struct running_service *s = map_get(&r->services, name);

    if (s == NULL) {
        s = mem_alloc(sizeof(*s));
        map_put(&r->services, name, s);
    }
    return s;
}

void running_move(struct running *r, const char *service, const struct hash *from,
                  const struct hash *to)
{
    struct running_service *s;

    if (hash_equal(from, to))
        return;
    s = service_of(r, service);
    if (!hash_is_zero(from))
        take_off(s, from);
    if (!hash_is_zero(to))
        put_on(s, to);
    changed(r, s);
}

uint64_t running_count(const struct running *r, const char *service, const struct hash *release)
{
    const struct msg_running *one = find(map_get(&r->services, service), release);

    return one == NULL ? 0 : one->machines;
}

void running_touch_all(struct running *r)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&r->services, &i)) != NULL;)
        changed(r, e->value);
}

void running_touch(struct running *r, const char *service)
{
    changed(r, service_of(r, service));
}

static int most_first(const void *a, const void *b)
{
    const struct msg_running *x = a, *y = b;

    if (x->machines != y->machines)
        return x->machines < y->machines ? 1 : -1;
    return memcmp(x->release.b, y->release.b, HASH_BYTES);
}

bool running_next(struct running *r, struct msg_runs *ret)
{
    struct map_entry *e;

    for (size_t i = 0; r->nchanged > 0 && (e = map_next(&r->services, &i)) != NULL;) {
        struct running_service *s = e->value;
        size_t n = s->n < RUNS_MAX ? s->n : RUNS_MAX;

        if (!s->changed)
            continue;
        s->changed = false;
        r->nchanged--;
        if (s->n > 0)
            qsort(s->releases, s->n, sizeof(*s->releases), most_first);
        *ret = (struct msg_runs){ mem_strdup(e->key), { NULL, n } };
        if (n > 0)
            ret->releases.items = mem_dup(s->releases, n * sizeof(*s->releases));
        return true;
    }
    return false;
}
