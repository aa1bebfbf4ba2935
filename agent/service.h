/* service.h - one service on this machine: what is wanted, what is true, and the next step between.
 *
 * Level-triggered: every event (a goal, sources, a slot, a verdict, a death) only pokes; the step
 * then looks at goal, disk, journal and process, and does the one next thing. A missed or doubled
 * event changes nothing.
 *
 * The happy path of a goal: stage (stage.h), verify, ask for a slot, stop the old process, journal
 * TRIAL, move `current`, start, watch its health, journal COMMITTED, give the slot back, report.
 * How it fails:
 *   - staging fails: reported, tried again with backoff while the goal stands; what runs, runs on
 *   - the start fails, the process dies or is not healthy in time: bad, latched; it stays where it
 *     is until a goal says otherwise (usually: the release before)
 *   - the agent dies: the next one adopts the process by (pid, start time), or starts it again
 *   - the machine dies: the committed release starts again; a trial only if its goal still stands,
 *     it is not bad and has not been started too often, else the release before
 *   - the tree on disk is not what the manifest says: it is never run, and staged anew */
#ifndef AGENT_SERVICE_H
#define AGENT_SERVICE_H

#include "fetched.h"
#include "goals.h"
#include "io/http.h"
#include "io/work.h"
#include "report.h"
#include "slots.h"
#include "store/exchange.h"

enum {
    SERVICE_STOP_MS = 10000,        /* from SIGTERM to SIGKILL */
    SERVICE_COMMAND_MS = 60000,     /* for a start command without a health check's `within` */
    SERVICE_RESTART_MIN_MS = 100,   /* after a death; doubled each time */
    SERVICE_RESTART_MAX_MS = 30000, /* up to this */
    SERVICE_STEADY_MS = 60000,      /* having run this long, deaths are counted anew */
    SERVICE_DEATHS_MAX = 3,         /* within SERVICE_STEADY_MS: a crash loop, bad */
    SERVICE_STAGE_RETRY_MIN_MS = 500,
    SERVICE_STAGE_RETRY_MAX_MS = 30000,
    SERVICE_RETRY_MS = 2000, /* after a failure of our own disk */
    SERVICE_SOURCES_MAX = 4, /* releases of which we know the packs */
    SERVICE_VERIFIED_MAX = 8,
    SERVICE_KEEP_PACKS_MS = 3600000, /* of what runs well, since somebody last wanted some of it */
    SERVICE_TELL_APPLY_MS = 5000,    /* between lines about a decoding that lasts */
};

/* What services share; outlives them. */
struct service_host {
    struct loop *loop;
    struct work_pool *pool;
    struct http_client *http;
    struct exchange *exchange;
    struct goals *goals;
    struct slots *slots;
    struct reports *reports;
    const char *root; /* absolute */
    const char *machine;
    const char *region; /* "" until known */
    int64_t keep_packs_ms;
    /* Is the pack used by a service other than that one? */
    bool (*pack_is_used)(void *ctx, const struct hash *pack, const char *service);
    /* Does one stage a release with it? */
    bool (*pack_is_staged)(void *ctx, const struct hash *pack, const char *service);
    void (*pack_dropped)(void *ctx, const struct hash *pack);
    /* Sets what is known of the machine and its peers: rate and edges. */
    void (*measure)(void *ctx, const struct hash *packs, size_t npacks, struct fetched *f);
    void (*staged)(void *ctx);  /* a release: its last progress is to be told before its report */
    void (*stopped)(void *ctx); /* after service_stop() */
    void *ctx;
};

struct service;

/* Reads what is on disk and adopts what runs. -ERR_IO, -ERR_NO_SPACE: its directory cannot be used.
 */
MUST_CHECK int service_open(struct service **ret, const struct service_host *host, const char *name,
                            struct err *err);
void service_poke(struct service *s);
void service_sources(struct service *s, const struct msg_sources *m);
/* True if there is progress to tell; texts are borrowed, lists lie in room. */
bool service_progress(const struct service *s, struct fetched_room *room, struct msg_progress *ret);
/* For MACHINE; the text is borrowed. */
void service_describe(const struct service *s, struct msg_service *ret);
/* Nothing that a live goal asks for is still unknown: packs that no service uses are of no use. */
bool service_is_settled(const struct service *s);
bool service_is_staging(const struct service *s);
bool service_uses_pack(const struct service *s, const struct hash *pack);
/* Once a while: bounds the log. */
void service_tick(struct service *s);
/* Stops what runs: SIGTERM, then SIGKILL after grace_ms. host->stopped() fires once. Starts nothing
 * any more. */
void service_stop(struct service *s, int64_t grace_ms);
bool service_is_down(const struct service *s); /* no process of it is up */
/* After work_pool_free(). What runs, runs on. */
void service_free(struct service *s);

#endif
