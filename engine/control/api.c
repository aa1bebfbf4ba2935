#include "control/api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/api_call.h"
#include "io/loop.h"
#include "io/port.h"

enum { BACKLOG = 256 };

struct api {
    struct api_options o;
    struct MHD_Daemon *daemon;
    int port;
    struct policy_host *host;
    pthread_mutex_t host_mutex;
    pthread_t waker;
    bool waking;
    pthread_mutex_t mutex; /* guards suspended, stopping */
    struct list suspended;
    bool stopping;
};

const struct route api_routes[] = {
    { "GET", "/livez", ROLE_NOBODY, route_live },
    { "GET", "/readyz", ROLE_NOBODY, route_ready },
    { "GET", "/metrics", ROLE_VIEWER, route_metrics },
    { "POST", "/v1/deployments", ROLE_RELEASER, route_trigger },
    { "GET", "/v1/deployments", ROLE_VIEWER, route_deployments },
    { "GET", "/v1/deployments/*", ROLE_VIEWER, route_deployment },
    { "GET", "/v1/deployments/*/events", ROLE_VIEWER, route_deployment_events },
    { "GET", "/v1/deployments/*/decisions", ROLE_VIEWER, route_decisions },
    { "POST", "/v1/deployments/*/*", ROLE_RELEASER, route_act },
    { "GET", "/v1/events", ROLE_VIEWER, route_events },
    { "GET", "/v1/jobs", ROLE_VIEWER, route_jobs },
    { "GET", "/v1/jobs/*", ROLE_VIEWER, route_job },
    { "GET", "/v1/jobs/*/log", ROLE_VIEWER, route_job_log },
    { "POST", "/v1/jobs/*/cancel", ROLE_RELEASER, route_job_cancel },
    { "GET", "/v1/regions", ROLE_VIEWER, route_regions },
    { "POST", "/v1/regions/*/forget", ROLE_ADMIN, route_region_forget },
    { "GET", "/v1/services", ROLE_VIEWER, route_services },
    { "GET", "/v1/artifacts", ROLE_VIEWER, route_artifacts },
    { "POST", "/v1/artifacts/forget", ROLE_ADMIN, route_artifacts_forget },
    { "POST", "/v1/tokens", ROLE_ADMIN, route_tokens },
    { "GET", "/v1/audit", ROLE_ADMIN, route_audit },
    { NULL, NULL, ROLE_NOBODY, NULL },
};

/* --- what routes use --- */

const struct api_options *api_options_of(const struct api *a)
{
    return &a->o;
}

struct policy_host *api_host_take(struct api *a)
{
    pthread_mutex_lock(&a->host_mutex);
    return a->host;
}

void api_host_give(struct api *a)
{
    pthread_mutex_unlock(&a->host_mutex);
}

void call_answer_text(struct call *c, int status, const char *type, const char *text)
{
    buf_reset(&c->out);
    buf_str_append(&c->out, text);
    c->status = status;
    c->type = type;
}

void call_answer(struct call *c, int status, json_t *value)
{
    AUTO_FREE char *text = json_text(value);

    call_answer_text(c, status, "application/json", text);
    buf_char(&c->out, '\n');
    json_decref(value);
}

const char *call_query(const struct call *c, const char *key)
{
    return MHD_lookup_connection_value(c->connection, MHD_GET_ARGUMENT_KIND, key);
}

int64_t call_number(const struct call *c, const char *key, int64_t def, int64_t min, int64_t max)
{
    const char *text = call_query(c, key);
    char *end;
    long long n;

    if (text == NULL || text[0] == '\0')
        return def;
    n = strtoll(text, &end, 10);
    if (*end != '\0')
        return def;
    return n < min ? min : n > max ? max : n;
}

/* --- errors --- */

static int status_of(enum err_code code)
{
    switch (code) {
    case ERR_INVALID:
        return MHD_HTTP_BAD_REQUEST;
    case ERR_LIMIT:
        return MHD_HTTP_CONTENT_TOO_LARGE;
    case ERR_NOT_FOUND:
        return MHD_HTTP_NOT_FOUND;
    case ERR_CONFLICT:
    case ERR_EXISTS:
        return MHD_HTTP_CONFLICT;
    case ERR_POLICY:
        return MHD_HTTP_UNPROCESSABLE_CONTENT;
    case ERR_DENIED:
        return MHD_HTTP_FORBIDDEN;
    case ERR_UNREACHABLE:
    case ERR_TIMEOUT: /* of the database */
    case ERR_AGAIN:
    case ERR_NO_SPACE:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    case ERR_NONE:
    case ERR_IO:
    case ERR_CORRUPT:
    case ERR_FENCED:
    case ERR_CANCELLED:
    case ERR_BUILD:
    case ERR_INTERNAL:
        break;
    }
    return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static void answer_error(struct call *c, int status, const struct err *err)
{
    call_answer(
        c, status,
        json_pack("{s:{s:s,s:s}}", "error", "code", err_name(err->code), "text", err->text));
    if (status >= 500)
        log_warn("%s %s: %s", c->method, c->path, err->text);
}

/* --- routing --- */

/* Does path fit the pattern? The stars' segments are copied to args. */
static bool fits(const char *pattern, const char *path, char *args[2])
{
    size_t n = 0;

    while (*pattern != '\0') {
        size_t len;

        if (*pattern != '*') {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        len = strcspn(path, "/");
        if (len == 0)
            return false;
        free(args[n]);
        args[n++] = mem_strndup(path, len);
        path += len;
        pattern++;
    }
    return *path == '\0';
}

static const struct route *find_route(struct call *c, bool *ret_path)
{
    *ret_path = false;
    for (const struct route *r = api_routes; r->method != NULL; r++) {
        if (!fits(r->pattern, c->path, c->args))
            continue;
        *ret_path = true;
        if (strcmp(r->method, c->method) == 0)
            return r;
    }
    return NULL;
}

static int check_token(struct call *c, struct err *err)
{
    const char *header =
        MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    int r;

    if (header == NULL || strncmp(header, "Bearer ", 7) != 0)
        return err_set(err, ERR_DENIED, "a bearer token is needed");
    buf_reset(&c->who);
    r = token_check(c->db, header + 7, &c->role, &c->who, err);
    return r;
}

static int parse_body(struct call *c, struct err *err)
{
    if (c->body.len == 0 || c->json != NULL)
        return 0;
    return json_parse(&c->json, c->body.data, c->body.len, err);
}

static void run_route(struct call *c, const struct route *route)
{
    struct err err = ERR_INIT;
    int r = db_pool_take(c->api->o.db, &c->db, &err);

    if (r == 0 && route->role != ROLE_NOBODY) {
        r = check_token(c, &err);
        if (r == -ERR_DENIED) {
            answer_error(c, MHD_HTTP_UNAUTHORIZED, &err);
            goto done;
        }
    }
    if (r == 0 && c->role < route->role)
        r = err_set(&err, ERR_DENIED, "%s needs the role %s; this token has %s", c->path,
                    role_text(route->role), role_text(c->role));
    if (r == 0)
        r = parse_body(c, &err);
    if (r == 0)
        r = route->run(c, &err);
    if (r < 0) {
        c->wait = false;
        answer_error(c, status_of(err.code), &err);
    }
done:
    db_pool_give(c->api->o.db, c->db);
    c->db = NULL;
}

static void run_call(struct call *c)
{
    bool known = false;
    const struct route *route = find_route(c, &known);
    struct err err = ERR_INIT;

    c->wait = false;
    if (c->too_large) {
        err_set(&err, ERR_LIMIT, "the body is longer than %d bytes", API_BODY_MAX_BYTES);
        answer_error(c, MHD_HTTP_CONTENT_TOO_LARGE, &err);
    } else if (route == NULL) {
        err_set(&err, known ? ERR_INVALID : ERR_NOT_FOUND, "%s %s: there is no such route",
                c->method, c->path);
        answer_error(c, known ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND, &err);
    } else {
        run_route(c, route);
    }
}

/* --- libmicrohttpd --- */

static struct call *call_new(struct api *a, struct MHD_Connection *connection, const char *method,
                             const char *path)
{
    struct call *c = mem_alloc(sizeof(*c));

    c->api = a;
    c->connection = connection;
    c->method = mem_strdup(method);
    c->path = mem_strdup(path);
    c->started_ms = monotonic_ms();
    list_init(&c->node);
    return c;
}

static void call_free(struct call *c)
{
    json_decref(c->json);
    buf_release(&c->body);
    buf_release(&c->out);
    buf_release(&c->who);
    free(c->method);
    free(c->path);
    free(c->args[0]);
    free(c->args[1]);
    free(c->header_offset);
    free(c->header_status);
    free(c->seen);
    free(c);
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **con,
                         enum MHD_RequestTerminationCode why)
{
    struct api *a = ctx;
    struct call *c = *con;

    (void)connection;
    (void)why;
    if (c == NULL)
        return;
    pthread_mutex_lock(&a->mutex);
    list_remove(&c->node);
    pthread_mutex_unlock(&a->mutex);
    call_free(c);
    *con = NULL;
}

static void add_header(struct MHD_Response *r, const char *name, const char *value)
{
    if (value != NULL && MHD_add_response_header(r, name, value) == MHD_NO)
        log_debug("header %s was refused", name);
}

static enum MHD_Result send_answer(struct call *c)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(c->out.len, c->out.data, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result ok;

    if (r == NULL)
        return MHD_NO;
    add_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, c->type);
    add_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    add_header(r, "X-Content-Type-Options", "nosniff");
    add_header(r, "X-Next-Offset", c->header_offset);
    add_header(r, "X-Job-Status", c->header_status);
    if (c->status == MHD_HTTP_UNAUTHORIZED)
        add_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    ok = MHD_queue_response(c->connection, (unsigned)c->status, r);
    MHD_destroy_response(r);
    return ok;
}

/* Puts the connection aside until the waker resumes it. */
static bool suspend(struct call *c)
{
    struct api *a = c->api;
    bool stopping;

    pthread_mutex_lock(&a->mutex);
    stopping = a->stopping;
    if (!stopping) {
        MHD_suspend_connection(c->connection);
        list_push(&a->suspended, &c->node);
    }
    pthread_mutex_unlock(&a->mutex);
    return !stopping;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **con)
{
    struct api *a = ctx;
    struct call *c = *con;

    (void)version;
    if (c == NULL) {
        *con = call_new(a, connection, method, url);
        return MHD_YES;
    }
    if (*len > 0) {
        if (c->body.len + *len > API_BODY_MAX_BYTES)
            c->too_large = true;
        else
            buf_append(&c->body, data, *len);
        *len = 0;
        return MHD_YES;
    }
    run_call(c);
    if (c->wait && suspend(c))
        return MHD_YES;
    if (c->wait)
        call_answer(c, MHD_HTTP_SERVICE_UNAVAILABLE,
                    json_pack("{s:{s:s,s:s}}", "error", "code", "again", "text",
                              "the control plane is stopping"));
    return send_answer(c);
}

static void *run_waker(void *arg)
{
    struct api *a = arg;
    uint64_t seen = 0;
    bool stopping = false;

    while (!stopping) {
        wake_wait(a->o.wake, &seen, API_WAKE_MS);
        pthread_mutex_lock(&a->mutex);
        stopping = a->stopping;
        LIST_EACH (&a->suspended, n) {
            struct call *c = CONTAINER_OF(n, struct call, node);

            list_remove(n);
            MHD_resume_connection(c->connection);
        }
        pthread_mutex_unlock(&a->mutex);
        if (wake_stopped(a->o.wake) && !stopping) {
            const struct timespec step = { 0, 10 * 1000000 };

            nanosleep(&step, NULL); /* wake_wait() no longer waits */
        }
    }
    return NULL;
}

static void log_mhd(void *ctx, const char *fmt, va_list args)
{
    AUTO_BUF text = BUF_INIT;

    (void)ctx;
    buf_vprintf(&text, fmt, args);
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    log_debug("http: %s", buf_str(&text));
}

static int start_daemon(struct api *a, struct err *err)
{
    unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_ITC;
    int fd = -1, r = port_listen(a->o.listen, BACKLOG, &fd, &a->port, err);

    if (r < 0)
        return r;
    a->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, a, MHD_OPTION_EXTERNAL_LOGGER, log_mhd, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)API_THREADS,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)API_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)API_IDLE_S, MHD_OPTION_NOTIFY_COMPLETED, on_completed, a,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(64 * 1024), MHD_OPTION_END);
    if (a->daemon == NULL) {
        close(fd);
        return err_set(err, ERR_INTERNAL, "cannot start the HTTP server");
    }
    return 0;
}

int api_start(struct api **ret, const struct api_options *o, struct err *err)
{
    struct api *a = mem_alloc(sizeof(*a));
    int r;

    a->o = *o;
    pthread_mutex_init(&a->mutex, NULL);
    pthread_mutex_init(&a->host_mutex, NULL);
    list_init(&a->suspended);
    r = policy_host_new(&a->host, o->engine_path, err);
    if (r == 0)
        r = start_daemon(a, err);
    if (r == 0 && pthread_create(&a->waker, NULL, run_waker, a) == 0)
        a->waking = true;
    else if (r == 0)
        r = err_set(err, ERR_INTERNAL, "cannot start a thread");
    if (r < 0) {
        api_free(a);
        return err_wrap(err, "http");
    }
    *ret = a;
    return 0;
}

int api_port(const struct api *a)
{
    return a->port;
}

void api_free(struct api *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->mutex);
    a->stopping = true;
    pthread_mutex_unlock(&a->mutex);
    wake_all(a->o.wake);
    if (a->waking)
        pthread_join(a->waker, NULL);
    if (a->daemon != NULL)
        MHD_stop_daemon(a->daemon);
    policy_host_free(a->host);
    pthread_mutex_destroy(&a->mutex);
    pthread_mutex_destroy(&a->host_mutex);
    free(a);
}
