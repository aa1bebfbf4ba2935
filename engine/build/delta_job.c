#include "build/delta_job.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/loop.h"
#include "store/publish_delta.h"
#include "wire/json.h"

struct spec {
    struct delta_side base, target;
    int64_t deadline_s;
};

static int parse(const json_t *json, struct spec *ret, struct err *err)
{
    const json_t *delta = json_object_get(json, "delta");
    int r = json_get_hash(delta, "base", &ret->base.artifact, err);

    if (r == 0)
        r = json_get_hash(delta, "base_pack", &ret->base.pack, err);
    if (r == 0)
        r = json_get_hash(delta, "target", &ret->target.artifact, err);
    if (r == 0)
        r = json_get_hash(delta, "target_pack", &ret->target.pack, err);
    if (r == 0)
        r = json_get_int(json, "deadline", 1, INT64_C(86400), &ret->deadline_s, err);
    return r;
}

bool delta_job_is(const char *spec)
{
    AUTO_JSON *json = NULL;

    return json_parse(&json, spec, strlen(spec), NULL) == 0 &&
           json_is_object(json_object_get(json, "delta"));
}

static int go_on(void *lease, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return lease_check(lease, NULL);
}

/* Why there is no pack; "" if there is one. */
static const char *why(const struct published_delta *p)
{
    switch (p->dropped) {
    case DELTA_KEPT:
        break;
    case DELTA_TOO_LARGE:
        return "it would have more than 60 % of the full pack's bytes";
    case DELTA_UNRELATED:
        return "nothing in it is like that version";
    }
    return "";
}

_Static_assert(PUBLISH_DELTA_SHARE == 60, "the text says so");

static json_t *packed_json(const struct published_delta *p)
{
    json_t *list = json_array();

    for (size_t i = 0; i < p->nnamed; i++)
        json_array_append_new(list, json_pack("{s:s,s:I,s:s}", "path", p->packed[i].path, "bytes",
                                              (json_int_t)p->packed[i].bytes, "kind",
                                              p->packed[i].kind->name));
    return list;
}

static char *result_text(const struct published_delta *p, int64_t ms)
{
    AUTO_JSON *result = json_object();
    json_t *delta =
        json_pack("{s:I,s:I,s:s,s:o,s:I,s:I}", "pack_bytes", (json_int_t)p->pack_bytes,
                  "full_bytes", (json_int_t)p->full_bytes, "why", why(p), "packed", packed_json(p),
                  "npacked", (json_int_t)p->npacked, "packed_bytes", (json_int_t)p->packed_bytes);

    json_object_set_new(delta, "pack",
                        p->dropped != DELTA_KEPT ? json_null() : json_hash(&p->pack));
    json_object_set_new(result, "v", json_integer(1));
    json_object_set_new(result, "delta", delta);
    json_object_set_new(result, "seconds", json_real((double)ms / 1000));
    return json_text(result);
}

static void say(struct courier *courier, const struct published_delta *p, int64_t ms)
{
    AUTO_BUF line = BUF_INIT;

    if (p->dropped == DELTA_KEPT)
        buf_printf(&line, "== delta pack of %llu bytes, the full one has %llu",
                   (unsigned long long)p->pack_bytes, (unsigned long long)p->full_bytes);
    else
        buf_printf(&line, "== no delta: %s; the full pack has %llu bytes", why(p),
                   (unsigned long long)p->full_bytes);
    buf_printf(&line, "; took %.1f s\n", (double)ms / 1000);
    for (size_t i = 0; i < p->nnamed; i++)
        buf_printf(&line, "== %s (%llu bytes) is compressed: a delta can't help there\n",
                   p->packed[i].path, (unsigned long long)p->packed[i].bytes);
    courier_log(courier, line.data, line.len);
}

/* What cannot get better by trying again. */
static int blame(int r, struct lease *lease, struct err *err)
{
    if (r == -(int)ERR_CANCELLED && lease_check(lease, err) < 0)
        return -(int)err->code;
    if (r == -(int)ERR_INVALID || r == -(int)ERR_LIMIT || r == -(int)ERR_CORRUPT ||
        r == -(int)ERR_NOT_FOUND || r == -(int)ERR_CONFLICT)
        err->code = ERR_BUILD;
    return -(int)err->code;
}

static unsigned processors(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n < 1 ? 1 : n > 4 ? 4 : (unsigned)n;
}

int delta_job_run(struct store *s, const char *spec, struct lease *lease, struct courier *courier,
                  char **ret_result, struct err *err)
{
    struct delta_publish_options o = { .threads = processors(), .progress = go_on, .ctx = lease };
    struct published_delta published;
    AUTO_JSON *json = NULL;
    struct spec what;
    int64_t started = monotonic_ms();
    int r = json_parse(&json, spec, strlen(spec), err);

    *ret_result = NULL;
    if (r == 0)
        r = parse(json, &what, err);
    if (r < 0)
        return blame(r, lease, err);
    lease_set_deadline(lease, what.deadline_s * 1000);
    r = artifact_publish_delta(s, &what.base, &what.target, &o, &published, err);
    if (r < 0)
        return blame(r, lease, err);
    say(courier, &published, monotonic_ms() - started);
    *ret_result = result_text(&published, monotonic_ms() - started);
    published_delta_release(&published);
    return 0;
}
