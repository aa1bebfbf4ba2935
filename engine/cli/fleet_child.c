#include "cli/fleet_child.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/proc.h"
#include "wire/json.h"

enum {
    EARLIER_MS = 12000,
    EARLIER_POLL_MS = 20,
    LOG_MAX_BYTES = 16 << 20,
    LAST_WORDS_MAX_BYTES = 4096
};

struct port {
    char name[16];
    int number;
};

struct child_arg {
    char *text;       /* or NULL: */
    char *before;     /* text before a port */
    struct child *of; /* whose port */
    char port[16];
};

struct child {
    char *state_dir, *name, *ready_path, *log_path;
    struct child *after;
    struct child_arg args[CHILD_ARGS_MAX];
    size_t nargs;
    int keep_fd;
    pid_t pid; /* 0: not running */
    struct proc_id id;
    bool ready;
    struct port ports[CHILD_PORTS_MAX];
    int64_t due_ms, started_ms, pause_ms;
    int starts;
};

struct child *child_new(const char *state_dir, const char *name, struct child *after)
{
    struct child *c = mem_alloc(sizeof(*c));

    c->state_dir = mem_strdup(state_dir);
    c->name = mem_strdup(name);
    c->ready_path = mem_printf("%s/run/%s.json", state_dir, name);
    c->log_path = mem_printf("%s/logs/%s.log", state_dir, name);
    c->after = after;
    c->keep_fd = -1;
    return c;
}

void child_free(struct child *c)
{
    if (child_is_running(c)) {
        proc_kill_group(c->pid, SIGKILL);
        waitpid(c->pid, NULL, 0);
    }
    unlink(c->ready_path);
    for (size_t i = 0; i < c->nargs; i++) {
        free(c->args[i].text);
        free(c->args[i].before);
    }
    free(c->state_dir);
    free(c->name);
    free(c->ready_path);
    free(c->log_path);
    free(c);
}

static struct child_arg *next_arg(struct child *c)
{
    if (c->nargs == CHILD_ARGS_MAX)
        abort(); /* the table above is ours */
    return &c->args[c->nargs++];
}

void child_arg(struct child *c, const char *fmt, ...)
{
    AUTO_BUF text = BUF_INIT;
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    next_arg(c)->text = buf_steal(&text);
}

void child_port_arg(struct child *c, const char *fmt, struct child *of, const char *port)
{
    struct child_arg *a = next_arg(c);

    a->before = mem_strndup(fmt, strcspn(fmt, "%"));
    a->of = of;
    snprintf(a->port, sizeof(a->port), "%s", port);
}

void child_keep_fd(struct child *c, int fd)
{
    c->keep_fd = fd;
}

static void start(struct child *c)
{
    char *argv[CHILD_ARGS_MAX + 1] = { NULL };
    int log_fd = -1;
    struct proc_options o = { .argv = argv, .stdin_fd = -1, .keep_fd = c->keep_fd };
    struct err err = ERR_INIT;

    if (file_open_log(&log_fd, c->log_path, LOG_MAX_BYTES, &err) < 0)
        log_warn("%s", err.text);
    o.stdout_fd = o.stderr_fd = log_fd;
    for (size_t i = 0; i < c->nargs; i++) {
        struct child_arg *a = &c->args[i];

        argv[i] = a->text != NULL ? mem_strdup(a->text)
                                  : mem_printf("%s%d", a->before, child_port(a->of, a->port));
    }
    unlink(c->ready_path);
    c->ready = false;
    c->started_ms = monotonic_ms();
    c->starts++;
    if (proc_spawn(&c->pid, &o, &err) < 0 || proc_identify(&c->id, c->pid, &err) < 0)
        log_error("start %s: %s", c->name, err.text);
    for (size_t i = 0; i < c->nargs; i++)
        free(argv[i]);
    if (log_fd >= 0)
        close(log_fd);
}

static void note_ports(struct child *c, const json_t *ready)
{
    const char *name;
    json_t *value;
    size_t n = 0;

    json_object_foreach((json_t *)(uintptr_t)ready, name, value)
    {
        if (!json_is_integer(value) || n == CHILD_PORTS_MAX)
            continue;
        snprintf(c->ports[n].name, sizeof(c->ports[n].name), "%s", name);
        c->ports[n++].number = (int)json_integer_value(value);
    }
}

static void look_for_ready(struct child *c)
{
    AUTO_BUF text = BUF_INIT;
    AUTO_JSON *o = NULL;
    int64_t pid;

    if (file_read(&text, c->ready_path, 4096, NULL) < 0 ||
        json_parse(&o, text.data, text.len, NULL) < 0 ||
        json_get_int(o, "pid", 1, INT32_MAX, &pid, NULL) < 0 || pid != c->pid)
        return;
    c->ready = true;
    note_ports(c, o);
}

bool child_is_running(struct child *c)
{
    int status;
    AUTO_BUF how = BUF_INIT;

    if (c->pid <= 0)
        return false;
    if (waitpid(c->pid, &status, WNOHANG) == 0)
        return true;
    proc_status_text(&how, status);
    log_debug("%s (pid %d): %s", c->name, (int)c->pid, buf_str(&how));
    c->pid = 0;
    c->ready = false;
    return false;
}

/* At once the first time; then with a growing pause, until it has run calmly for a while. */
static void schedule_restart(struct child *c)
{
    int64_t now_ms = monotonic_ms();

    if (now_ms - c->started_ms > CHILD_CALM_MS)
        c->pause_ms = 0;
    c->due_ms = now_ms + c->pause_ms;
    c->pause_ms = c->pause_ms == 0 ? 200 : c->pause_ms * 2;
    if (c->pause_ms > CHILD_PAUSE_MAX_MS)
        c->pause_ms = CHILD_PAUSE_MAX_MS;
}

bool child_tend(struct child *c)
{
    pid_t before = c->pid;

    if (before > 0 && !child_is_running(c))
        schedule_restart(c);
    if (c->pid > 0) {
        if (!c->ready)
            look_for_ready(c);
        return false;
    }
    if ((c->after != NULL && !c->after->ready) || monotonic_ms() < c->due_ms)
        return before != c->pid;
    start(c);
    if (c->pid <= 0)
        schedule_restart(c);
    return true;
}

bool child_is_ready(const struct child *c)
{
    return c->ready;
}

int child_restarts(const struct child *c)
{
    return c->starts > 0 ? c->starts - 1 : 0;
}

int child_port(const struct child *c, const char *port)
{
    for (size_t i = 0; i < CHILD_PORTS_MAX; i++)
        if (strcmp(c->ports[i].name, port) == 0)
            return c->ports[i].number;
    return 0;
}

const char *child_ready_path(const struct child *c)
{
    return c->ready_path;
}

const char *child_log_path(const struct child *c)
{
    return c->log_path;
}

void child_last_words(const struct child *c, struct buf *out)
{
    static const char prefix[] = "engine: ";
    AUTO_BUF text = BUF_INIT;
    const char *line;

    if (file_read_end(&text, c->log_path, LAST_WORDS_MAX_BYTES, NULL) < 0)
        return;
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    line = strrchr(buf_str(&text), '\n');
    line = line == NULL ? buf_str(&text) : line + 1;
    if (strncmp(line, prefix, strlen(prefix)) == 0)
        line += strlen(prefix);
    buf_str_append(out, line);
}

void children_publish(const char *state_dir, struct child *const *children, size_t count)
{
    AUTO_FREE char *path = mem_printf("%s/fleet.json", state_dir);
    AUTO_BUF text = BUF_INIT;
    struct err err = ERR_INIT;

    buf_str_append(&text, "{\"children\":[");
    for (size_t i = 0, n = 0; i < count; i++) {
        if (children[i]->pid <= 0)
            continue;
        buf_printf(&text, "%s\n{\"name\":\"%s\",\"pid\":%d,\"start\":%llu}", n++ > 0 ? "," : "",
                   children[i]->name, (int)children[i]->pid,
                   (unsigned long long)children[i]->id.start_ticks);
    }
    buf_str_append(&text, "]}\n");
    if (file_publish(path, text.data, text.len, 0600, &err) < 0)
        log_warn("%s", err.text);
}

static size_t earlier_alive(const json_t *list, int signo)
{
    size_t alive = 0, i;
    json_t *o;

    json_array_foreach(list, i, o)
    {
        int64_t pid = 0, ticks = 0;
        struct proc_id id;

        if (json_get_int(o, "pid", 1, INT32_MAX, &pid, NULL) < 0 ||
            json_get_int(o, "start", 0, INT64_MAX, &ticks, NULL) < 0)
            continue;
        id = (struct proc_id){ (pid_t)pid, (uint64_t)ticks };
        if (!proc_is_alive(&id))
            continue;
        alive++;
        if (signo != 0)
            proc_kill_group(id.pid, signo);
    }
    return alive;
}

int children_end_earlier(const char *state_dir, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/fleet.json", state_dir);
    struct timespec pause = { 0, EARLIER_POLL_MS * 1000000L };
    AUTO_BUF text = BUF_INIT;
    AUTO_JSON *o = NULL;
    const json_t *list;
    int64_t waited = 0;

    if (file_read(&text, path, 1 << 20, NULL) < 0 ||
        json_parse(&o, text.data, text.len, NULL) < 0 ||
        json_get_array(o, "children", 100000, &list, NULL) < 0)
        return 0; /* the first fleet here */
    while (earlier_alive(list, waited >= EARLIER_MS ? SIGKILL : 0) > 0) {
        if (waited >= 2 * EARLIER_MS)
            return err_set(err, ERR_AGAIN, "processes of an earlier run in %s do not end: %s",
                           state_dir, path);
        nanosleep(&pause, NULL);
        waited += EARLIER_POLL_MS;
    }
    return 0;
}
