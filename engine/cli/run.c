/* engine run policy.lua - deploy, and follow it to its end.
 *
 * Against --engine URL: hands bundle and commit over and follows. Without: starts the whole system on this
 * machine first (fleet.h). The request is kept in STATE/intent.json before anything is started, with an
 * idempotency key: `engine run --resume` hands it over again, whenever this process was killed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/fleet.h"
#include "cli/progress.h"
#include "cli/summary.h"
#include "cli/trigger.h"
#include "io/files.h"
#include "io/loop.h"

enum { POLL_WAIT_MS = 150, AWAY_MAX_MS = 60000, INTENT_MAX_BYTES = 8 << 20 };

struct run {
    struct globals g;
    struct trigger_options trigger;
    struct fleet_options fleet_options;
    int64_t regions, agents, timeout_ms;
    bool keep, resume, detach;
    bool kept; /* the request, in the state directory */
    struct fleet *fleet;
    struct client *client;
    struct progress *progress;
    json_t *view;
    int64_t seq, started_ms, away_since_ms;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signo)
{
    interrupted = signo;
}

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void nap(int64_t ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&t, NULL);
}

static char *intent_path(const struct run *r)
{
    return mem_printf("%s/intent.json", r->g.state_dir);
}

static int read_intent(struct run *r, json_t **ret, struct err *err)
{
    AUTO_FREE char *path = intent_path(r);
    AUTO_BUF text = BUF_INIT;
    int rv = file_read(&text, path, INTENT_MAX_BYTES, err);

    return rv < 0 ? rv : json_parse(ret, text.data, text.len, err);
}

/* The state is nothing to commit, and may well lie in the repository. */
static int ignore_state(struct run *r, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/.gitignore", r->g.state_dir);

    return path_exists(path) ? 0 : file_publish(path, "*\n", 2, 0644, err);
}

static int keep_intent(struct run *r, const json_t *request, struct err *err)
{
    AUTO_FREE char *path = intent_path(r);
    AUTO_FREE char *text = json_text(request);
    int rv = ignore_state(r, err);

    if (rv == 0)
        rv = file_publish(path, text, strlen(text), 0600, err);
    r->kept = rv == 0;
    return rv;
}

/* The request to hand over; NULL with --resume when there is none kept. */
static int find_request(struct run *r, json_t **ret, struct err *err)
{
    AUTO_BUF note = BUF_INIT;
    int rv;

    *ret = NULL;
    if (r->resume) {
        rv = read_intent(r, ret, err);
        if (rv != -ERR_NOT_FOUND || r->trigger.policy == NULL)
            return rv == -ERR_NOT_FOUND ? 0 : rv;
    }
    r->trigger.no_input = r->g.no_input;
    rv = trigger_request(ret, &r->trigger, &note, err);
    if (rv == 0 && note.len > 0)
        progress_note(r->progress, "%s", note.data);
    return rv;
}

static int open_fleet(struct run *r, struct err *err)
{
    int rv;

    r->fleet_options.state_dir = r->g.state_dir;
    r->fleet_options.regions = (int)r->regions;
    r->fleet_options.agents = (int)r->agents;
    if (r->fleet_options.db == NULL)
        r->fleet_options.db = getenv("ENGINE_DB");
    rv = fleet_open(&r->fleet, &r->fleet_options, err);
    if (rv < 0)
        return rv;
    progress_note(r->progress, "local system in %s: %d regions of %d machines", r->g.state_dir,
                  fleet_regions(r->fleet), fleet_agents(r->fleet));
    return 0;
}

/* The request is kept once the state directory is ours, and before anything is started. */
static int connect_control(struct run *r, const json_t *request, struct err *err)
{
    int rv;

    if (r->g.engine != NULL)
        return client_open(&r->client, &r->g, err);
    rv = open_fleet(r, err);
    if (rv == 0 && request != NULL)
        rv = keep_intent(r, request, err);
    if (rv == 0)
        rv = fleet_start(r->fleet, err);
    if (rv == 0)
        r->client = client_new(fleet_url(r->fleet), fleet_token(r->fleet));
    return rv;
}

/* With --resume and no kept request: the live deployment, or else the last one. */
static int find_deployment(struct run *r, struct err *err)
{
    AUTO_JSON *answer = NULL;
    const json_t *list;
    int rv = client_get(r->client, "/v1/deployments?limit=1", 10000, &answer, err);

    if (rv == 0)
        rv = json_get_array(answer, "deployments", 1000, &list, err);
    if (rv < 0)
        return rv;
    if (json_array_size(list) == 0)
        return err_set(err, ERR_NOT_FOUND, "there is nothing to resume in %s", r->g.state_dir);
    r->view = json_incref(json_array_get(list, 0));
    return 0;
}

/* A control plane of ours that dies meanwhile starts again; the request's key makes it safe to repeat. */
static int hand_over(struct run *r, const json_t *request, struct err *err)
{
    int64_t until_ms = monotonic_ms() + AWAY_MAX_MS;
    int rv;

    if (request == NULL)
        return find_deployment(r, err);
    for (;;) {
        rv = client_post(r->client, "/v1/deployments", request, &r->view, err);
        if ((rv != -ERR_UNREACHABLE && rv != -ERR_AGAIN) || r->fleet == NULL || interrupted ||
            monotonic_ms() > until_ms)
            return rv;
        fleet_tend(r->fleet);
        nap(POLL_WAIT_MS);
    }
}

static bool is_over(const struct run *r)
{
    return json_is_integer(json_object_get(r->view, "finished"));
}

static void take_events(struct run *r, const json_t *answer)
{
    json_t *view = json_object_get(answer, "deployment"), *event;
    size_t i;

    json_array_foreach(json_object_get(answer, "events"), i, event)
    {
        r->seq = json_integer_value(json_object_get(event, "seq"));
        progress_event(r->progress, event);
    }
    if (json_is_object(view)) {
        json_decref(r->view);
        r->view = json_incref(view);
    }
}

/* One long poll. A control plane that does not answer is waited for: it may be starting again. */
static int poll_once(struct run *r, struct err *err)
{
    const char *id = json_string_value(json_object_get(r->view, "id"));
    AUTO_FREE char *path = mem_printf("/v1/deployments/%s/events?after=%lld&wait=%d", id,
                                      (long long)r->seq, POLL_WAIT_MS);
    AUTO_JSON *answer = NULL;
    int rv = client_get(r->client, path, 30000, &answer, err);

    if (rv == 0) {
        r->away_since_ms = 0;
        take_events(r, answer);
        return 0;
    }
    if (rv != -ERR_UNREACHABLE && rv != -ERR_AGAIN)
        return rv;
    if (r->away_since_ms == 0)
        r->away_since_ms = monotonic_ms();
    if (monotonic_ms() - r->away_since_ms > AWAY_MAX_MS)
        return rv;
    nap(POLL_WAIT_MS);
    return 0;
}

static bool timed_out(const struct run *r)
{
    return r->timeout_ms > 0 && monotonic_ms() - r->started_ms > r->timeout_ms;
}

/* Until it is over, held with nobody to ask, interrupted or timed out. Returns the exit code. */
static int follow(struct run *r, struct err *err)
{
    while (!is_over(r)) {
        int rv;

        if (interrupted)
            return EXIT_DETACHED;
        if (timed_out(r))
            return EXIT_TIMED_OUT;
        if (r->fleet != NULL)
            fleet_tend(r->fleet);
        rv = poll_once(r, err);
        if (rv < 0)
            return exit_of_err(err);
        progress_view(r->progress, r->view, monotonic_ms());
    }
    /* What was logged between the last answer and the end. */
    return poll_once(r, err) < 0 ? exit_of_err(err) : EXIT_OK;
}

static void say_how_to_go_on(const struct run *r)
{
    const char *id = json_string_value(json_object_get(r->view, "id"));

    if (r->fleet == NULL)
        fprintf(stderr, "engine: %s goes on: engine status %s --engine %s\n", id, id, r->g.engine);
    else
        fprintf(stderr, "engine: %s stopped here: engine run --resume --state %s goes on\n", id,
                r->g.state_dir);
}

static void stay(struct run *r)
{
    progress_note(r->progress, "the fleet runs (API %s, state %s); Ctrl-C stops it",
                  fleet_url(r->fleet), r->g.state_dir);
    while (!interrupted) {
        fleet_tend(r->fleet);
        nap(POLL_WAIT_MS);
    }
}

static int finish(struct run *r, int code, const struct err *err)
{
    AUTO_FREE char *path = intent_path(r);

    if (code == EXIT_DETACHED || code == EXIT_TIMED_OUT) {
        say_how_to_go_on(r);
        return summary_print(&r->g, r->view, code);
    }
    if (code != EXIT_OK)
        return fail(&r->g, err);
    progress_view(r->progress, r->view, monotonic_ms());
    code = summary_print(&r->g, r->view, code);
    if (r->fleet != NULL)
        unlink(path);
    if (r->fleet != NULL && r->keep)
        stay(r);
    return code;
}

static int deploy(struct run *r, struct err *err)
{
    AUTO_JSON *request = NULL;
    int rv = find_request(r, &request, err);

    if (rv == 0)
        rv = connect_control(r, request, err);
    if (rv == 0)
        rv = hand_over(r, request, err);
    if (rv < 0) {
        AUTO_FREE char *path = intent_path(r);

        if (r->kept && !r->resume && rv != -ERR_UNREACHABLE && rv != -ERR_AGAIN)
            unlink(path); /* refused: there is nothing to go on with */
        return fail(&r->g, err);
    }
    if (r->detach && r->fleet == NULL) {
        return summary_print(&r->g, r->view, EXIT_OK);
    }
    return finish(r, follow(r, err), err);
}

static bool in_range(int64_t n, int64_t max)
{
    return n == FLEET_AS_BEFORE || (n >= 1 && n <= max);
}

int cli_run(int argc, char **argv)
{
    struct run r = { .regions = FLEET_AS_BEFORE,
                     .agents = FLEET_AS_BEFORE,
                     .started_ms = monotonic_ms() };
    struct err err = ERR_INIT;
    const struct flag flags[] = {
        { "ref", FLAG_TEXT, &r.trigger.ref, "REF", "branch or tag to deploy (HEAD)" },
        { "commit", FLAG_TEXT, &r.trigger.commit, "SHA", "commit to deploy" },
        { "set", FLAG_LIST, &r.trigger.params, "K=V", "a parameter of the policy; repeatable" },
        { "reason", FLAG_TEXT, &r.trigger.reason, "TEXT", "why, for the audit log" },
        { "regions", FLAG_INT, &r.regions, "N", "local regions (as before, or 3)" },
        { "agents", FLAG_INT, &r.agents, "N", "local machines a region (as before, or 4)" },
        { "db", FLAG_TEXT, &r.fleet_options.db, "URL",
          "postgres://… (or ENGINE_DB); as before, or SQLite" },
        { "sandbox", FLAG_TEXT, &r.fleet_options.sandbox, "bwrap|none",
          "how local builds are isolated (bwrap)" },
        { "resume", FLAG_BOOL, &r.resume, NULL, "go on with what was interrupted" },
        { "keep", FLAG_BOOL, &r.keep, NULL, "leave the local fleet running until Ctrl-C" },
        { "detach", FLAG_BOOL, &r.detach, NULL, "with --engine: do not follow" },
        { "timeout", FLAG_DURATION, &r.timeout_ms, "TIME", "stop following after that (exit 8)" },
    };
    const struct verb verb = {
        "run [options] POLICY.lua",
        "Builds the service that the policy describes, replicates it to every region and rolls it "
        "out "
        "in waves.\nWithout --engine the whole system runs on this machine, under --state.",
        flags,
        COUNT_OF(flags),
        0,
        1
    };
    int operands, code;

    if (flags_parse(&verb, &r.g, argc, argv, &operands, &code) != 0)
        return code;
    if (operands == 0 && !r.resume)
        err_set(&err, ERR_INVALID, "which policy? engine run POLICY.lua");
    else if (!in_range(r.regions, FLEET_REGIONS_MAX) || !in_range(r.agents, FLEET_AGENTS_MAX))
        err_set(&err, ERR_INVALID, "--regions is 1 to %d, --agents 1 to %d", FLEET_REGIONS_MAX,
                FLEET_AGENTS_MAX);
    else if (r.fleet_options.sandbox != NULL && strcmp(r.fleet_options.sandbox, "bwrap") != 0 &&
             strcmp(r.fleet_options.sandbox, "none") != 0)
        err_set(&err, ERR_INVALID, "--sandbox is bwrap or none, not '%s'", r.fleet_options.sandbox);
    if (err.code != ERR_NONE)
        return fail(&r.g, &err);
    r.trigger.policy = operands > 0 ? argv[0] : NULL;
    catch_signals();
    r.progress = progress_new(&r.g);
    code = deploy(&r, &err);
    client_close(r.client);
    if (r.fleet != NULL)
        fleet_stop(r.fleet);
    progress_free(r.progress);
    json_decref(r.view);
    free(r.trigger.params.items);
    return code;
}
