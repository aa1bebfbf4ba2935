#include "control/verify.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/publish.h"
#include "store/publish_delta.h"

struct check {
    struct verifier *verifier;
    struct list node;
    pthread_t thread;
    char *deployment;
    json_t *artifacts;
    bool done;
    int result;
    struct err err;
    int64_t retry_at_ms; /* of one that could not be made */
};

struct verifier {
    struct store *store;
    struct wake *wake;
    size_t max, running;
    int64_t retry_ms;
    pthread_mutex_t mutex; /* guards done, result and err of the checks */
    struct list checks;
};

struct verifier *verifier_new(struct store *s, struct wake *w, size_t max, int64_t retry_ms)
{
    struct verifier *v = mem_alloc(sizeof(*v));

    v->store = s;
    v->wake = w;
    v->max = max;
    v->retry_ms = retry_ms;
    pthread_mutex_init(&v->mutex, NULL);
    list_init(&v->checks);
    return v;
}

/* {"base","base_pack","target","pack","pack_bytes"} */
static int check_delta(struct store *s, const json_t *a, struct err *err)
{
    struct delta_side base;
    struct hash target, pack;
    uint64_t found = 0;
    int64_t bytes = 0;
    int r = json_get_hash(a, "base", &base.artifact, err);

    if (r == 0)
        r = json_get_hash(a, "base_pack", &base.pack, err);
    if (r == 0)
        r = json_get_hash(a, "target", &target, err);
    if (r == 0)
        r = json_get_hash(a, "pack", &pack, err);
    if (r == 0)
        r = json_get_int(a, "pack_bytes", 0, INT64_MAX, &bytes, err);
    if (r == 0)
        r = artifact_verify_delta(s, &base, &target, &pack, &found, err);
    if (r == 0 && found != (uint64_t)bytes)
        r = err_set(err, ERR_CORRUPT, "it is not as large as the worker said");
    return r;
}

static int check_one(struct store *s, const json_t *a, struct err *err)
{
    const char *variant = json_string_value(json_object_get(a, "variant"));
    struct published found = { 0 };
    struct hash artifact, pack;
    int64_t bytes = 0, files = 0;
    int r = json_get_hash(a, "artifact", &artifact, err);

    if (r == 0)
        r = json_get_hash(a, "pack", &pack, err);
    if (r == 0)
        r = json_get_int(a, "bytes", 0, INT64_MAX, &bytes, err);
    if (r == 0)
        r = json_get_int(a, "files", 0, INT64_MAX, &files, err);
    if (r == 0)
        r = artifact_verify(s, &artifact, &pack, &found, err);
    if (r == 0 && (found.stream_bytes != (uint64_t)bytes || found.files != (uint64_t)files))
        r = err_set(err, ERR_CORRUPT, "it is not as large as the worker said");
    return r < 0 ? err_wrap(err, "variant %s", variant == NULL ? "?" : variant) : 0;
}

static void *run(void *arg)
{
    struct check *c = arg;
    struct err err = ERR_INIT;
    json_t *a;
    size_t i;
    int r = 0;

    json_array_foreach(c->artifacts, i, a)
    {
        r = json_object_get(a, "base") != NULL ? check_delta(c->verifier->store, a, &err)
                                               : check_one(c->verifier->store, a, &err);
        if (r < 0)
            break;
    }
    pthread_mutex_lock(&c->verifier->mutex);
    c->result = r;
    c->err = err;
    c->done = true;
    pthread_mutex_unlock(&c->verifier->mutex);
    wake_all(c->verifier->wake);
    return NULL;
}

static struct check *find(struct verifier *v, const char *deployment)
{
    LIST_EACH (&v->checks, n) {
        struct check *c = CONTAINER_OF(n, struct check, node);

        if (strcmp(c->deployment, deployment) == 0)
            return c;
    }
    return NULL;
}

static void check_free(struct check *c)
{
    list_remove(&c->node);
    json_decref(c->artifacts);
    free(c->deployment);
    free(c);
}

static void start(struct verifier *v, const char *deployment, const json_t *artifacts)
{
    struct check *c;

    if (v->running >= v->max)
        return;
    c = mem_alloc(sizeof(*c));
    c->verifier = v;
    c->deployment = mem_strdup(deployment);
    c->artifacts = json_deep_copy(artifacts);
    list_push(&v->checks, &c->node);
    v->running++;
    if (pthread_create(&c->thread, NULL, run, c) != 0) {
        v->running--;
        check_free(c);
    }
}

enum verify_state verify_ask(struct verifier *v, const char *deployment, const json_t *artifacts,
                             int64_t now_ms, struct err *err)
{
    struct check *c = find(v, deployment);
    enum verify_state state = VERIFY_GOOD;
    bool done;

    if (c != NULL && c->retry_at_ms != 0) {
        if (now_ms < c->retry_at_ms)
            return VERIFY_LATER;
        check_free(c);
        c = NULL;
    }
    if (c == NULL) {
        start(v, deployment, artifacts);
        return VERIFY_RUNNING;
    }
    pthread_mutex_lock(&v->mutex);
    done = c->done;
    pthread_mutex_unlock(&v->mutex);
    if (!done)
        return VERIFY_RUNNING;
    pthread_join(c->thread, NULL);
    v->running--;
    if (c->result < 0) {
        enum err_code code = c->err.code;

        *err = c->err;
        state = code == ERR_NOT_FOUND || code == ERR_CORRUPT || code == ERR_INVALID ? VERIFY_BAD
                                                                                    : VERIFY_LATER;
    }
    if (state == VERIFY_LATER) {
        log_warn("verify %s: %s (tried again)", deployment, err->text);
        c->retry_at_ms = now_ms + v->retry_ms;
    } else {
        check_free(c);
    }
    return state;
}

void verifier_free(struct verifier *v)
{
    if (v == NULL)
        return;
    LIST_EACH (&v->checks, n) {
        struct check *c = CONTAINER_OF(n, struct check, node);

        if (c->retry_at_ms == 0)
            pthread_join(c->thread, NULL);
        check_free(c);
    }
    pthread_mutex_destroy(&v->mutex);
    free(v);
}
