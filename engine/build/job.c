#include "build/job.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "build/delta_job.h"
#include "io/files.h"
#include "io/proc.h"

enum { RETRY_MS = 500, TELL_AFTER_STOP_MS = 10000 };

struct outcome {
    enum job_status status; /* JOB_QUEUED: give it back; JOB_NONE: it is not ours any more */
    const char *failure;
    char *result;
    struct err err; /* its text is the reason */
};

static int make_folder(const char *folder, struct err *err)
{
    static const char *const parts[] = { "src", "home", "tmp" };
    int r = dir_remove(folder, err);

    for (size_t i = 0; i < COUNT_OF(parts) && r == 0; i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", folder, parts[i]);

        r = dir_make(path, 0700, err);
    }
    return r;
}

static void remove_folder(const char *folder)
{
    AUTO_FREE char *tag = build_tag(folder);
    struct err err = ERR_INIT;

    proc_kill_tagged(tag);
    if (dir_remove(folder, &err) < 0)
        log_warn("%s", err.text);
}

static int build(const struct job_site *site, const struct job *job, struct lease *lease,
                 struct courier *courier, char **ret_result, struct err *err)
{
    struct build_site where = { site->store, &site->sandbox, site->mirrors };
    AUTO_FREE char *folder =
        mem_printf("%s/%lld-%lld", site->builds, (long long)job->id, (long long)job->attempt);
    struct recipe *recipe;
    int r = recipe_parse(&recipe, job->spec, err);

    if (r < 0) {
        err->code = ERR_BUILD;
        return -(int)ERR_BUILD;
    }
    lease_set_deadline(lease, recipe->deadline_ms);
    if (site->no_sandbox != NULL)
        r = err_set(err, ERR_DENIED, "%s", site->no_sandbox);
    if (r == 0)
        r = make_folder(folder, err);
    if (r == 0)
        r = build_run(&where, recipe, folder, lease, courier, ret_result, err);
    remove_folder(folder);
    recipe_free(recipe);
    return r;
}

/* Only what is not the build's fault is tried again. */
static void judge(struct outcome *o, int r, struct lease *lease)
{
    if (r == 0) {
        o->status = JOB_SUCCEEDED;
        o->failure = "";
        return;
    }
    o->status = JOB_FAILED;
    switch (lease_state(lease)) {
    case LEASE_FENCED:
        o->status = JOB_NONE;
        break;
    case LEASE_STOPPED:
        o->status = JOB_QUEUED;
        break;
    case LEASE_CANCELLED:
        o->status = JOB_CANCELLED;
        o->failure = "cancelled";
        break;
    case LEASE_EXPIRED:
        o->failure = "deadline";
        break;
    case LEASE_NONE:
    case LEASE_HELD:
        o->failure = r == -(int)ERR_BUILD ? "build" : "infra";
        break;
    }
}

static int tell_once(struct db *d, const struct job *job, const struct outcome *o, struct err *err)
{
    if (o->status == JOB_QUEUED)
        return queue_release(d, job->id, job->attempt, err);
    return queue_finish(d, job->id, job->attempt, o->status, o->result, o->failure,
                        o->status == JOB_SUCCEEDED ? NULL : o->err.text, err);
}

/* Both acts can be repeated, so an unknown outcome is tried again, until the monitor has taken the
 * job back anyway. */
static void tell(const struct job_site *site, struct db *d, const struct job *job,
                 const struct outcome *o, atomic_bool *stopping)
{
    int64_t until = monotonic_ms() + site->lost_ms;
    int64_t until_stopped = monotonic_ms() + TELL_AFTER_STOP_MS;
    struct err err = ERR_INIT;
    int r;

    do {
        r = tell_once(d, job, o, &err);
        if (r != -(int)ERR_UNREACHABLE && r != -(int)ERR_AGAIN)
            break;
        (void)poll(NULL, 0, RETRY_MS);
    } while (monotonic_ms() < until && (!atomic_load(stopping) || monotonic_ms() < until_stopped));
    if (r < 0)
        log_warn("job %lld: its outcome (%s) is not recorded: %s", (long long)job->id,
                 job_status_name(o->status), err.text);
}

static void log_failure(struct courier *courier, const struct outcome *o)
{
    AUTO_FREE char *line =
        mem_printf("== %s: %s\n", o->status == JOB_FAILED ? "failed" : "ended", o->err.text);

    courier_log(courier, line, strlen(line));
}

void job_build(const struct job_site *site, struct db *d, const struct job *job, int64_t claimed_ms,
               atomic_bool *stopping)
{
    struct outcome o = { .err = ERR_INIT };
    struct courier *courier = NULL;
    struct lease *lease = NULL;
    int r;

    log_info("job %lld (%s %.12s) attempt %lld", (long long)job->id, job->name, job->sha,
             (long long)job->attempt);
    /* The margin, a quarter, is for killing the build and for clocks that run apart. */
    r = lease_new(&lease, claimed_ms, site->lost_ms - site->lost_ms / 4, stopping, &o.err);
    if (r == 0)
        r = courier_start(&courier, site->db_url, job->id, job->attempt, site->beat_ms, lease,
                          &o.err);
    if (r == 0 && delta_job_is(job->spec))
        r = delta_job_run(site->store, job->spec, lease, courier, &o.result, &o.err);
    else if (r == 0)
        r = build(site, job, lease, courier, &o.result, &o.err);
    if (lease != NULL)
        judge(&o, r, lease);
    if (courier != NULL && r < 0)
        log_failure(courier, &o);
    courier_finish(courier);
    if (o.status == JOB_NONE)
        log_warn("job %lld attempt %lld is no longer ours", (long long)job->id,
                 (long long)job->attempt);
    else
        tell(site, d, job, &o, stopping);
    log_info("job %lld: %s %s", (long long)job->id, job_status_name(o.status),
             r < 0 ? o.err.text : "");
    lease_free(lease);
    free(o.result);
}
