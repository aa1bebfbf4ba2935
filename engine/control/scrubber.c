/* A pass: begun -> each known artifact after `position` -> those that are missing -> finished. Killed
 * anywhere: the row says which artifact was the last; the one in hand is read again. */
#include "control/scrubber.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/duty.h"
#include "control/history.h"
#include "control/reach.h"
#include "io/files.h"
#include "io/loop.h"
#include "queue/queue.h"
#include "store/scrub.h"

/* What was not good. */
struct finding {
    enum object_kind kind;
    struct hash name;
    enum scrub_verdict verdict;
    char *why;
};

struct scrubber {
    struct store *store;
    struct wake *wake;
    char *url, *holder, *work;
    char **from;
    size_t nfrom;
    int64_t every_ms;
    uint64_t bytes_per_s;
    pthread_t thread;
    bool threaded;

    struct db *db;
    int64_t fence, checked_ms;
    struct catalog *catalog;
    char position[HASH_HEX];  /* "": at the beginning */
    struct finding *findings; /* of the artifact in hand */
    size_t nfindings, cap;
    int lost_duty; /* < 0: why it stopped */
    struct err duty_err;
};

/* --- the duty --- */

static int hold_duty(struct scrubber *s, struct err *err)
{
    int r = 0;

    if (s->db == NULL)
        r = db_open(&s->db, s->url, err);
    if (r == 0 && s->fence == 0)
        r = duty_claim(s->db, "scrub", s->holder, &s->fence, err);
    else if (r == 0 && monotonic_ms() - s->checked_ms > DUTY_MS / 4)
        r = duty_check(s->db, "scrub", s->fence, err);
    else
        return r;
    s->checked_ms = monotonic_ms();
    if (r == -(int)ERR_FENCED)
        s->fence = 0;
    return r;
}

/* Between two reads: an artifact may take hours. */
static int go_on(void *ctx)
{
    struct scrubber *s = ctx;

    if (wake_stopped(s->wake))
        return -1;
    s->lost_duty = hold_duty(s, &s->duty_err);
    return s->lost_duty;
}

/* --- what was found --- */

static void on_object(void *ctx, enum object_kind kind, const struct hash *name,
                      enum scrub_verdict verdict, const char *why)
{
    struct scrubber *s = ctx;

    if (verdict == SCRUB_GOOD)
        return;
    VEC_GROW(s->findings, s->nfindings, s->cap);
    s->findings[s->nfindings++] = (struct finding){ kind, *name, verdict, mem_strdup(why) };
}

static void drop_findings(struct scrubber *s)
{
    for (size_t i = 0; i < s->nfindings; i++)
        free(s->findings[i].why);
    s->nfindings = 0;
}

static int exists(struct db *d, const char *sql, const char *param, bool *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, sql, db_text(param));

    *ret = r == 0 && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return r;
}

/* Whoever wants the delta has it made anew; machines take another pack meanwhile. */
static int forget_delta(struct db *d, const char *pack, const char *why, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "UPDATE delta SET state = 'none', reason = $2 WHERE pack = $1 "
                    "AND state = 'ready' RETURNING job",
                    db_text(pack), db_text(why));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        r = queue_forget(d, db_get_int(rows, i, 0), err);
    db_rows_free(rows);
    return r;
}

struct found {
    struct scrubber *s;
    const char *artifact;
    const struct scrub_result *result;
};

static int write_finding(struct db *d, const struct found *f, const struct finding *x,
                         struct err *err)
{
    bool healed = x->verdict == SCRUB_HEALED;
    char hex[HASH_HEX];
    AUTO_FREE char *text =
        mem_printf("%s %.12s of artifact %.12s rotted in the origin store (%s) and %s",
                   object_kind_name(x->kind), hash_hex(&x->name, hex), f->artifact, x->why,
                   healed ? "was healed"
                          : "could not be healed: copy it back by engine artifact "
                            "verify --from, or trigger its commit again");
    AUTO_JSON *data = json_pack("{s:s,s:s,s:s,s:s,s:s}", "artifact", f->artifact, "kind",
                                object_kind_name(x->kind), "name", hex, "verdict",
                                scrub_verdict_name(x->verdict), "reason", x->why);

    log_warn("scrub: %s", text);
    if (!healed && x->kind == OBJECT_PACK && forget_delta(d, hex, x->why, err) < 0)
        return -(int)err->code;
    return event_add(d, "", "scrub", text, data, err);
}

/* Of what was collected while it was read nothing is said: the row went first. */
static int write_found(struct db *d, void *arg, struct err *err)
{
    const struct found *f = arg;
    const struct scrub_result *x = f->result;
    bool known = false;
    int r = duty_check(d, "scrub", f->s->fence, err);

    if (r == 0)
        r = exists(d, "SELECT 1 FROM artifact WHERE digest = $1", f->artifact, &known, err);
    for (size_t i = 0; r == 0 && known && i < f->s->nfindings; i++)
        r = write_finding(d, f, &f->s->findings[i], err);
    return r < 0 ? r
                 : DB_EXEC(d, err,
                           "UPDATE scrub SET position = $1, bytes = bytes + $2, good = good + $3, "
                           "healed = healed + $4, rotten = rotten + $5 WHERE one = 1",
                           db_text(f->artifact), db_int((int64_t)x->bytes),
                           db_int((int64_t)x->good), db_int(known ? (int64_t)x->healed : 0),
                           db_int(known ? (int64_t)x->rotten : 0));
}

/* --- an artifact --- */

static size_t open_from(const struct scrubber *s, struct store *from[SCRUBBER_FROM_MAX])
{
    struct err err = ERR_INIT;
    size_t n = 0;

    for (size_t i = 0; i < s->nfrom; i++) {
        if (path_is_dir(s->from[i]) && store_open(&from[n], s->from[i], &err) == 0)
            n++;
    }
    return n;
}

/* pack: the full one that the control plane knows of. */
static int scrub_one(struct scrubber *s, const struct catalog_artifact *a, const char *pack,
                     struct err *err)
{
    struct store *from[SCRUBBER_FROM_MAX];
    struct hash expect;
    struct scrub_options o = { .from = from,
                               .nfrom = open_from(s, from),
                               .work = s->work,
                               .bytes_per_s = s->bytes_per_s,
                               .expect = &expect,
                               .nexpect = hash_parse(&expect, pack),
                               .go_on = go_on,
                               .tell = on_object,
                               .ctx = s };
    struct scrub_result result = { 0 };
    char hex[HASH_HEX];
    struct found found = { s, hash_hex(&a->hash, hex), &result };
    int r = artifact_scrub(s->store, s->catalog, a, &o, &result, err);

    if (r == -(int)ERR_IO) { /* a bad sector must not end the pass; nothing is moved aside for it */
        log_warn("%s: the next pass looks at it again", err->text);
        result.rotten++;
        r = 0;
    }
    if (r == 0)
        r = db_transaction(s->db, write_found, &found, err);
    if (r == 0)
        memcpy(s->position, hex, HASH_HEX);
    drop_findings(s);
    for (size_t i = 0; i < o.nfrom; i++)
        store_close(from[i]);
    if (r == -(int)ERR_CANCELLED && s->lost_duty < 0) {
        *err = s->duty_err;
        r = s->lost_duty;
    }
    return r;
}

static int scrub_known(struct scrubber *s, const struct catalog_artifact *a, struct err *err)
{
    struct db_rows *rows = NULL;
    char hex[HASH_HEX];
    int r = DB_ROWS(s->db, &rows, err, "SELECT pack FROM artifact WHERE digest = $1",
                    db_text(hash_hex(&a->hash, hex)));

    if (r == 0 && db_rows_count(rows) > 0)
        r = scrub_one(s, a, db_get_text(rows, 0, 0), err);
    db_rows_free(rows);
    return r;
}

/* --- a pass --- */

static int look(struct scrubber *s, struct err *err)
{
    catalog_free(s->catalog);
    s->catalog = NULL;
    return catalog_read(&s->catalog, s->store, err);
}

static int scrub_catalog(struct scrubber *s, struct err *err)
{
    int r = look(s, err);

    for (size_t i = 0; r == 0 && i < s->catalog->nartifacts; i++) {
        char hex[HASH_HEX];

        if (strcmp(hash_hex(&s->catalog->artifacts[i].hash, hex), s->position) <= 0)
            continue;
        r = go_on(s) < 0 ? err_set(err, ERR_CANCELLED, "stopped")
                         : scrub_known(s, &s->catalog->artifacts[i], err);
    }
    return r;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text == NULL ? "" : text;
}

/* Asked first, looked after: what was put meanwhile is there. */
static int scrub_missing(struct scrubber *s, struct err *err)
{
    AUTO_JSON *reach = NULL;
    json_t *known;
    size_t i;
    int r = reach_load(s->db, REACH_KEEP, &reach, err);

    if (r == 0)
        r = look(s, err);
    json_array_foreach(json_object_get(reach, "artifacts"), i, known)
    {
        struct catalog_artifact a = { 0 };

        if (r == 0 && json_is_true(json_object_get(known, "reachable")) &&
            hash_parse(&a.hash, text_of(known, "digest")) &&
            catalog_get(s->catalog, &a.hash) == NULL)
            r = scrub_known(s, &a, err);
    }
    return r;
}

static int begin(struct scrubber *s, bool *ret_due, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(s->db, &rows, err,
                    "UPDATE scrub SET position = CASE WHEN begun_at IS NULL THEN '' ELSE position "
                    "END, begun_at = COALESCE(begun_at, now_ms()) WHERE one = 1 AND "
                    "(begun_at IS NOT NULL OR finished_at + $1 <= now_ms()) RETURNING position",
                    db_int(s->every_ms));

    *ret_due = r == 0 && db_rows_count(rows) > 0;
    if (*ret_due) {
        const char *position = db_get_text(rows, 0, 0);

        s->position[0] = '\0';
        if (strlen(position) == HASH_HEX - 1)
            memcpy(s->position, position, HASH_HEX);
    }
    db_rows_free(rows);
    return r;
}

static int finish(struct db *d, void *arg, struct err *err)
{
    const struct scrubber *s = arg;
    int r = duty_check(d, "scrub", s->fence, err);

    return r < 0 ? r
                 : DB_EXEC(d, err,
                           "UPDATE scrub SET begun_at = NULL, position = '', passes = passes + 1, "
                           "finished_at = now_ms() WHERE one = 1");
}

int scrubber_pass(struct scrubber *s, bool *ret_passed, struct err *err)
{
    int r = hold_duty(s, err);

    *ret_passed = false;
    if (r == 0 && s->fence != 0)
        r = begin(s, ret_passed, err);
    if (r < 0 || !*ret_passed)
        return r;
    r = scrub_catalog(s, err);
    if (r == 0)
        r = scrub_missing(s, err);
    if (r == 0)
        r = db_transaction(s->db, finish, s, err);
    catalog_free(s->catalog);
    s->catalog = NULL;
    return r < 0 ? err_wrap(err, "scrub") : 0;
}

/* --- the thread --- */

static void *run(void *arg)
{
    struct scrubber *s = arg;
    uint64_t seen = 0;

    while (!wake_stopped(s->wake)) {
        int64_t until = monotonic_ms() + SCRUBBER_LOOK_MS;
        struct err err = ERR_INIT;
        bool passed = false;

        if (scrubber_pass(s, &passed, &err) < 0 && err.code != ERR_CANCELLED)
            log_warn("%s", err.text);
        else if (passed && !wake_stopped(s->wake))
            wake_all(s->wake); /* there may be events */
        while (!wake_stopped(s->wake) && monotonic_ms() < until)
            wake_wait(s->wake, &seen, until - monotonic_ms());
    }
    if (s->fence != 0)
        duty_leave(s->db, "scrub", s->fence);
    return NULL;
}

int scrubber_new(struct scrubber **ret, const struct scrubber_options *o, struct err *err)
{
    struct scrubber *s;

    if (o->nfrom > SCRUBBER_FROM_MAX)
        return err_set(err, ERR_LIMIT, "scrub: more than %d stores to heal from",
                       SCRUBBER_FROM_MAX);
    s = mem_alloc(sizeof(*s));
    s->store = o->store;
    s->wake = o->wake;
    s->url = mem_strdup(o->db);
    s->holder = mem_strdup(o->holder);
    s->work = mem_strdup(o->work);
    s->from = mem_calloc(o->nfrom + 1, sizeof(*s->from));
    for (size_t i = 0; i < o->nfrom; i++)
        s->from[s->nfrom++] = mem_strdup(o->from[i]);
    s->every_ms = o->every_ms == 0 ? SCRUBBER_EVERY_MS : o->every_ms;
    s->bytes_per_s = o->bytes_per_s == 0 ? SCRUBBER_BYTES_PER_S : o->bytes_per_s;
    *ret = s;
    return 0;
}

int scrubber_start(struct scrubber **ret, const struct scrubber_options *o, struct err *err)
{
    struct scrubber *s = NULL;
    int r = scrubber_new(&s, o, err);

    if (r < 0)
        return r;
    r = pthread_create(&s->thread, NULL, run, s);
    if (r != 0) {
        scrubber_free(s);
        return err_sys(err, r, "start the scrubber");
    }
    s->threaded = true;
    *ret = s;
    return 0;
}

void scrubber_free(struct scrubber *s)
{
    if (s == NULL)
        return;
    if (s->threaded)
        pthread_join(s->thread, NULL);
    catalog_free(s->catalog);
    drop_findings(s);
    free(s->findings);
    db_close(s->db);
    for (size_t i = 0; i < s->nfrom; i++)
        free(s->from[i]);
    free(s->from);
    free(s->url);
    free(s->holder);
    free(s->work);
    free(s);
}
