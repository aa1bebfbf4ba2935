/* health.h - is it well? A check that is repeated for ever, and what follows from its results.
 *
 * The judge is pure: three results in, three verdicts out.
 *
 *   good     `passes` passes in a row
 *   bad      not good `within` the time since the start; or, once good, as many failures in a row
 *            as passes are asked (at least HEALTH_FAILS_MIN)
 *   unknown  not good in time, but the check itself could never be carried out
 *
 * Bad latches. Silence is never good: a check that does not answer in `timeout` has failed.
 *
 * struct health runs the checks on the loop: an HTTP GET (good is a 2xx), a command (good is exit
 * status 0), or none: then staying up is the check, and the service tells of a death itself. */
#ifndef AGENT_HEALTH_H
#define AGENT_HEALTH_H

#include "io/http.h"
#include "io/proc.h"
#include "wire/msg.h"

enum {
    HEALTH_FAILS_MIN = 3,
    HEALTH_REASON_MAX = 400,
    HEALTH_EAGER_MS = 50,   /* until the first pass: 50 ms, 100 ms, 200 ms … up to the interval */
    HEALTH_PLAIN_MS = 5000, /* a process without any check is good when it has run this long */
};

enum health_result { HEALTH_NONE = 0, HEALTH_PASS, HEALTH_FAIL, HEALTH_CANNOT };

struct judge {
    int64_t passes; /* asked for */
    int64_t deadline_ms;
    int64_t passed, failed; /* in a row */
    bool answered;          /* the check was carried out at least once */
    enum verdict verdict;
};

void judge_init(struct judge *j, int64_t passes, int64_t deadline_ms);
/* A result at a time of the same clock as deadline_ms; HEALTH_NONE: only time has passed. Returns
 * true if the verdict changed. */
bool judge_step(struct judge *j, enum health_result result, int64_t now_ms);

struct health_options {
    struct loop *loop;
    struct http_client *http;
    const char *url;     /* expanded, or NULL */
    char *const *argv;   /* expanded, or NULL */
    char *const *env;    /* of argv */
    const char *dir;     /* of argv */
    int64_t interval_ms; /* from the end of one check to the start of the next */
    int64_t timeout_ms, within_ms, passes;
};

struct health;

/* Copies the options. changed: verdict is other than before; reason is of the last result. Never
 * called from inside health_new(). */
void health_new(struct health **ret, const struct health_options *o,
                void (*changed)(void *ctx, enum verdict verdict, const char *reason), void *ctx);
void health_free(struct health *h); /* stops; NULL is fine */
enum verdict health_verdict(const struct health *h);

#endif
