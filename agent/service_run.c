/* Starting, watching and stopping what the active release runs. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "expand.h"
#include "io/files.h"
#include "io/port.h"
#include "releases.h"
#include "service_internal.h"

enum { VARIABLES = 6, PORT_CLASH_MS = 3000, HELPER_KILL_MS = 500 };

struct commands {
    char **argv, **env;
    char *dir;
};

static void commands_release(struct commands *c)
{
    argv_free(c->argv);
    argv_free(c->env);
    free(c->dir);
}

struct names {
    char hex[HASH_HEX];
    struct variable vars[VARIABLES];
};

static void names_of(struct service *s, struct names *n)
{
    free(s->port_text);
    s->port_text = mem_printf("%d", s->journal.port);
    hash_hex(&s->active->id, n->hex);
    n->vars[0] = (struct variable){ "PORT", s->port_text };
    n->vars[1] = (struct variable){ "RELEASE", n->hex };
    n->vars[2] = (struct variable){ "COMMIT", s->active->commit };
    n->vars[3] = (struct variable){ "MACHINE", s->host.machine };
    n->vars[4] = (struct variable){ "SERVICE", s->name };
    n->vars[5] = (struct variable){ "REGION", s->host.region };
}

/* The first of a name wins in most programs' eyes, so each name is put once: the release's own
 * variables before the defaults, ours before all. */
static int make_env(struct service *s, const struct names *n, char ***ret, struct err *err)
{
    static const struct variable defaults[] = {
        { "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
        { "LANG", "C.UTF-8" },
    };
    char **env = mem_calloc(VARIABLES + json_object_size(s->active->env) + COUNT_OF(defaults) + 2,
                            sizeof(*env));
    size_t count = 0;
    const char *key;
    json_t *value;

    for (size_t i = 0; i < VARIABLES; i++)
        env[count++] = mem_printf("%s=%s", n->vars[i].name, n->vars[i].value);
    env[count++] = mem_printf("HOME=%s", s->dir);
    json_object_foreach(s->active->env, key, value)
    {
        struct buf text = BUF_INIT;

        buf_printf(&text, "%s=", key);
        if (expand(&text, json_string_value(value), n->vars, VARIABLES, err) < 0) {
            buf_release(&text);
            argv_free(env);
            return err_wrap(err, "environment: %s", key);
        }
        env[count++] = buf_steal(&text);
    }
    for (size_t i = 0; i < COUNT_OF(defaults); i++) {
        if (json_object_get(s->active->env, defaults[i].name) == NULL)
            env[count++] = mem_printf("%s=%s", defaults[i].name, defaults[i].value);
    }
    *ret = env;
    return 0;
}

/* argv expanded, a relative program name made absolute below the release's tree. */
static int make_commands(struct service *s, char *const *argv, struct commands *ret,
                         struct err *err)
{
    AUTO_FREE char *base = releases_path(s->dir, &s->active->id);
    struct names names;

    memset(ret, 0, sizeof(*ret));
    names_of(s, &names);
    ret->dir = mem_printf("%s/tree", base);
    if (make_env(s, &names, &ret->env, err) < 0)
        return -(int)err->code;
    if (argv == NULL)
        return 0;
    if (expand_argv(&ret->argv, argv, names.vars, VARIABLES, err) < 0)
        return -(int)err->code;
    if (ret->argv[0][0] != '/' && strchr(ret->argv[0], '/') != NULL) {
        char *program = mem_printf("%s/%s", ret->dir, ret->argv[0]);

        free(ret->argv[0]);
        ret->argv[0] = program;
    }
    return 0;
}

static int start_process(struct service *s, struct process *p, char *const *argv,
                         bool keep_children, struct err *err)
{
    struct commands c;
    int r = make_commands(s, argv, &c, err);

    if (r == 0) {
        struct process_spec spec = { c.argv, c.env, c.dir, s->log_path, s->tag, keep_children };

        r = process_start(p, &spec, err);
    }
    commands_release(&c);
    return r;
}

bool run_is_up(const struct service *s)
{
    if (s->active != NULL && s->active->mode == ACTIVATE_COMMAND)
        return s->up;
    return process_is_up(&s->main);
}

/* --- health --- */

static void health_changed(void *ctx, enum verdict verdict, const char *reason)
{
    struct service *s = ctx;
    AUTO_FREE char *text = NULL;

    if (verdict == VERDICT_UNKNOWN)
        text = mem_printf("health: cannot tell: %s", reason);
    else
        text = mem_printf("health: %s", reason);
    service_set_verdict(s, verdict, text);
}

/* Starts to judge the active release from the beginning. */
void run_watch_health(struct service *s)
{
    const struct health_check *check = &s->active->health;
    struct health_options o = { .loop = s->host.loop,
                                .http = s->host.http,
                                .interval_ms = 1000,
                                .timeout_ms = 1000,
                                .within_ms = HEALTH_PLAIN_MS,
                                .passes = 1 };
    AUTO_BUF url = BUF_INIT;
    struct commands c = { NULL, NULL, NULL };
    struct names names;
    struct err err = ERR_INIT;
    int r = 0;

    health_free(s->health);
    s->health = NULL;
    if (!s->active->has_health && s->active->mode == ACTIVATE_COMMAND) {
        service_set_verdict(s, VERDICT_GOOD, "the start command has ended well");
        return;
    }
    names_of(s, &names);
    if (s->active->has_health) {
        o.interval_ms = check->interval_ms;
        o.timeout_ms = check->timeout_ms;
        o.within_ms = check->within_ms;
        o.passes = check->passes;
        if (check->http != NULL)
            r = expand(&url, check->http, names.vars, VARIABLES, &err);
        if (r == 0)
            r = make_commands(s, check->exec, &c, &err);
        o.url = check->http == NULL ? NULL : url.data;
        o.argv = c.argv;
        o.env = c.env;
        o.dir = c.dir;
    }
    if (r < 0)
        service_set_verdict(s, VERDICT_BAD, err.text);
    else
        health_new(&s->health, &o, health_changed, s);
    commands_release(&c);
}

/* --- the run file --- */

static void keep_run(struct service *s, const struct proc_id *id)
{
    struct run run = { .id = *id,
                       .release = s->journal.release,
                       .activation = s->journal.activation,
                       .port = s->journal.port };
    struct err err = ERR_INIT;

    snprintf(run.boot, sizeof(run.boot), "%s", proc_boot_id());
    /* Without it the next agent kills what it cannot name, by its tag, and starts it again. */
    if (run_save(&run, s->run_path, &err) < 0)
        log_error("service %s: %s", s->name, err.text);
}

void run_forget(struct service *s)
{
    s->up = false;
    (void)unlink(s->run_path);
}

/* --- starting --- */

static int choose_port(struct service *s, int wanted, struct err *err)
{
    AUTO_FREE char *key = mem_printf("%s/%s", s->host.root, s->name);
    int before = s->journal.port;

    if (port_choose(wanted, key, &s->journal.port, err) < 0)
        return -(int)err->code;
    if (s->journal.port == before)
        return 0;
    health_free(s->health); /* it asks at the old one */
    s->health = NULL;
    return service_save(s);
}

static void restart_now(struct timer *t)
{
    service_poke(CONTAINER_OF(t, struct service, restart));
}

static void restart_later(struct service *s)
{
    int64_t delay = SERVICE_RESTART_MIN_MS;

    for (int i = 1; i < s->deaths && delay < SERVICE_RESTART_MAX_MS; i++)
        delay *= 2;
    if (delay > SERVICE_RESTART_MAX_MS)
        delay = SERVICE_RESTART_MAX_MS;
    timer_start(s->host.loop, &s->restart, delay, 0, restart_now);
}

/* A start that did not even come to a process. */
static void start_failed(struct service *s, const struct err *err)
{
    AUTO_FREE char *text = mem_printf("activate: start: %s", err->text);

    log_warn("service %s: %s", s->name, text);
    s->deaths++;
    if (s->journal.phase == JOURNAL_TRIAL || s->deaths >= SERVICE_DEATHS_MAX)
        service_set_verdict(s, VERDICT_BAD, text);
    restart_later(s);
}

static void command_late(struct timer *t)
{
    struct service *s = CONTAINER_OF(t, struct service, helper_limit);

    log_warn("service %s: a command did not end in time", s->name);
    process_stop(&s->helper, HELPER_KILL_MS);
}

static void start_command(struct service *s)
{
    int64_t limit = s->active->has_health ? s->active->health.within_ms : SERVICE_COMMAND_MS;
    struct err err = ERR_INIT;

    if (start_process(s, &s->helper, s->active->start, true, &err) < 0) {
        start_failed(s, &err);
        return;
    }
    s->step = STEP_START;
    timer_start(s->host.loop, &s->helper_limit, limit, 0, command_late);
}

static void start_main(struct service *s)
{
    struct err err = ERR_INIT;

    if (start_process(s, &s->main, s->active->start, false, &err) < 0) {
        start_failed(s, &err);
        return;
    }
    s->started_ms = loop_now_ms(s->host.loop);
    keep_run(s, &s->main.id);
    log_info("service %s: started %.12s, pid %d, port %d", s->name, s->active->commit,
             (int)s->main.id.pid, s->journal.port);
    if (s->health == NULL)
        run_watch_health(s);
}

/* Once a start is begun it counts, also if the machine dies of it: the count is on disk first. */
static bool count_trial(struct service *s)
{
    if (s->journal.phase != JOURNAL_TRIAL || s->verdict == VERDICT_BAD)
        return true;
    if (s->counted) {
        s->counted = false;
        return true;
    }
    if (s->journal.starts >= JOURNAL_STARTS_MAX) {
        service_set_verdict(s, VERDICT_BAD, "activate: started too often without a verdict");
        return false;
    }
    s->journal.starts++;
    if (service_save(s) == 0)
        return true;
    s->journal.starts--;
    service_retry(s);
    return false;
}

void run_start(struct service *s)
{
    struct err err = ERR_INIT;

    if (s->active == NULL || s->stopping || !count_trial(s))
        return;
    if (choose_port(s, s->journal.port, &err) < 0) {
        start_failed(s, &err);
        return;
    }
    if (s->active->mode == ACTIVATE_COMMAND)
        start_command(s);
    else
        start_main(s);
}

/* --- ends --- */

static void stop_next(struct service *s);

/* Somebody else took the port between our look and its bind: not the release's fault. */
static bool is_port_clash(const struct service *s)
{
    return !s->port_moved && loop_now_ms(s->host.loop) - s->started_ms < PORT_CLASH_MS &&
           !port_is_free(s->journal.port);
}

static void died(struct service *s, int status)
{
    AUTO_BUF words = BUF_INIT;
    AUTO_FREE char *text = NULL;
    int64_t ran = loop_now_ms(s->host.loop) - s->started_ms;

    if (status == -1)
        buf_str_append(&words, "its status went to an earlier agent");
    else
        proc_status_text(&words, status);
    text = mem_printf("health: the process ended: %s", buf_str(&words));
    log_warn("service %s: %s", s->name, text);
    if (is_port_clash(s)) {
        s->port_moved = true;
        s->journal.port = 0;
        service_poke(s);
        return;
    }
    s->deaths = ran >= SERVICE_STEADY_MS ? 1 : s->deaths + 1;
    if (s->journal.phase == JOURNAL_TRIAL || s->deaths >= SERVICE_DEATHS_MAX)
        service_set_verdict(s, VERDICT_BAD, text);
    restart_later(s);
    service_poke(s);
}

static void main_exited(struct process *p, int status)
{
    struct service *s = p->user;

    if (s->stopping) {
        service_poke(s);
        s->host.stopped(s->host.ctx);
    } else if (s->step == STEP_STOP) {
        stop_next(s);
    } else {
        died(s, status);
    }
}

static void command_started(struct service *s, int status)
{
    static const struct proc_id none = { 0, 0 };
    AUTO_BUF words = BUF_INIT;
    AUTO_FREE char *text = NULL;

    s->step = STEP_REST;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        s->up = true;
        s->started_ms = loop_now_ms(s->host.loop);
        keep_run(s, &none);
        run_watch_health(s);
    } else {
        proc_status_text(&words, status);
        text = mem_printf("activate: start: %s", buf_str(&words));
        s->deaths++;
        if (s->journal.phase == JOURNAL_TRIAL || s->deaths >= SERVICE_DEATHS_MAX)
            service_set_verdict(s, VERDICT_BAD, text);
        restart_later(s);
    }
    service_poke(s);
}

static void helper_exited(struct process *p, int status)
{
    struct service *s = p->user;

    timer_stop(&s->helper_limit);
    if (s->stopping)
        s->host.stopped(s->host.ctx);
    else if (s->step == STEP_START)
        command_started(s, status);
    else if (s->step == STEP_STOP)
        stop_next(s);
}

/* --- stopping --- */

/* The stop command (if any) has ended; now the process itself, then whoever waits for it. */
static void stop_next(struct service *s)
{
    void (*after)(struct service * s) = s->after_stop;

    if (process_is_up(&s->main)) {
        process_stop(&s->main, SERVICE_STOP_MS);
        return;
    }
    run_forget(s);
    s->step = STEP_REST;
    after(s);
}

static void stop_soon(struct timer *t)
{
    stop_next(CONTAINER_OF(t, struct service, restart));
}

void run_stop(struct service *s, void (*after)(struct service *s))
{
    struct err err = ERR_INIT;

    health_free(s->health);
    s->health = NULL;
    timer_stop(&s->restart);
    s->step = STEP_STOP;
    s->after_stop = after;
    if (run_is_up(s) && s->active != NULL && s->active->stop != NULL) {
        if (start_process(s, &s->helper, s->active->stop, true, &err) == 0) {
            timer_start(s->host.loop, &s->helper_limit, SERVICE_STOP_MS, 0, command_late);
            return;
        }
        log_warn("service %s: stop command: %s", s->name, err.text);
    }
    timer_start(s->host.loop, &s->restart, 0, 0, stop_soon);
}

/* The agent ends and takes its services along. What mode "command" has left running is only known
 * to its stop command. */
void run_shut_down(struct service *s, int64_t grace_ms)
{
    struct err err = ERR_INIT;
    bool by_command = s->active != NULL && s->active->mode == ACTIVATE_COMMAND && s->up &&
                      s->active->stop != NULL && !process_is_up(&s->helper);

    if (process_is_up(&s->main))
        process_stop(&s->main, grace_ms);
    if (process_is_up(&s->helper))
        process_stop(&s->helper, grace_ms);
    if (!by_command)
        return;
    run_forget(s);
    if (start_process(s, &s->helper, s->active->stop, true, &err) < 0)
        log_warn("service %s: stop command: %s", s->name, err.text);
    else
        timer_start(s->host.loop, &s->helper_limit, grace_ms, 0, command_late);
}

void run_init(struct service *s)
{
    process_init(&s->main, s->host.loop, s->host.pool, main_exited, s);
    process_init(&s->helper, s->host.loop, s->host.pool, helper_exited, s);
}

/* True if what the journal says is active runs, in this boot, and is ours now. */
bool run_adopt(struct service *s)
{
    struct run run;
    struct err err = ERR_INIT;
    bool found;

    if (run_load(&run, s->run_path, &found, &err) < 0)
        log_warn("service %s: %s", s->name, err.text);
    if (!found || err.code != ERR_NONE || !run_is_of_this_boot(&run) || s->active == NULL ||
        !hash_equal(&run.release, &s->journal.release) || run.activation != s->journal.activation)
        return false;
    if (s->active->mode == ACTIVATE_COMMAND) {
        s->up = run.id.pid == 0;
        return s->up;
    }
    if (run.id.pid == 0 || process_adopt(&s->main, &run.id, s->tag, &err) < 0)
        return false;
    s->started_ms = loop_now_ms(s->host.loop);
    log_info("service %s: adopted pid %d", s->name, (int)run.id.pid);
    return true;
}
