#include "io/http.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/curl.h"

enum { GET_BODY_MAX = 64 * 1024, CONNECT_MS = 10000, HEADER_MAX = 8192 };

struct http_client {
    struct loop *loop;
    struct curl curl;
    CURLM *multi; /* NULL: there was no GET yet, and curl is not loaded */
    struct timer timer;
    struct list gets;    /* that run */
    struct list sockets; /* struct http_socket */
    bool delivering; /* done() may be running: whoever frees us then leaves the rest to deliver() */
    bool dead;
};

/* A socket that libcurl wants watched. */
struct http_socket {
    struct http_client *client;
    struct watch watch;
    struct list node;
};

struct answer {
    struct buf *out;
    size_t start, max;
    bool over;
};

static enum err_code code_of(CURLcode rc)
{
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return ERR_TIMEOUT;
    if (rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL)
        return ERR_INVALID;
    if (rc == CURLE_OUT_OF_MEMORY || rc == CURLE_BAD_FUNCTION_ARGUMENT)
        return ERR_INTERNAL;
    return ERR_UNREACHABLE;
}

static size_t on_answer(char *data, size_t size, size_t count, void *arg)
{
    struct answer *a = arg;
    size_t len = size * count;

    if (len > a->max - (a->out->len - a->start)) {
        a->over = true;
        return 0; /* ends the transfer */
    }
    buf_append(a->out, data, len);
    return len;
}

static bool is_this_host(const struct curl *curl, const char *url)
{
    CURLU *u = curl->url();
    char *host = NULL;
    bool is;

    is = u != NULL && curl->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
         curl->url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
         (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
          strncmp(host, "127.", 4) == 0);
    curl->free(host);
    curl->url_cleanup(u);
    return is;
}

/* What both ways have in common. */
static CURL *new_easy(const struct curl *curl, const char *url, int64_t timeout_ms, bool proxy)
{
    CURL *easy = curl->easy_init();

    if (easy == NULL || curl->easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK ||
        curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK) {
        curl->easy_cleanup(easy);
        return NULL;
    }
    curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl->easy_setopt(easy, CURLOPT_USERAGENT, "slipway");
    curl->easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    if (!proxy)
        curl->easy_setopt(easy, CURLOPT_PROXY, "");
    return easy;
}

/* A line break in a header's value would start another header. */
static bool is_one_line(const char *text)
{
    return text[strcspn(text, "\r\n")] == '\0' && strlen(text) < HEADER_MAX;
}

static void add_header(const struct curl *curl, struct curl_slist **list, const char *name,
                       const char *value)
{
    AUTO_FREE char *line = mem_printf("%s: %s", name, value);
    struct curl_slist *longer = curl->slist_append(*list, line);

    if (longer != NULL)
        *list = longer;
}

static struct curl_slist *headers_of(const struct curl *curl, const struct http_request *r)
{
    struct curl_slist *list = NULL;

    add_header(curl, &list, "Accept", "application/json, text/plain, */*");
    if (r->token != NULL) {
        AUTO_FREE char *bearer = mem_printf("Bearer %s", r->token);

        add_header(curl, &list, "Authorization", bearer);
    }
    if (r->body != NULL)
        add_header(curl, &list, "Content-Type", "application/json");
    return list;
}

static int perform(const struct curl *curl, CURL *easy, const struct http_request *r,
                   int *ret_status, struct buf *out, struct err *err)
{
    struct answer answer = { .out = out, .start = out->len, .max = r->max_bytes };
    char words[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURLcode rc;

    curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, words);
    curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl->easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
    rc = curl->easy_perform(easy);
    if (rc == CURLE_OK) {
        curl->easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        *ret_status = (int)status;
        return 0;
    }
    if (out->data != NULL) {
        out->len = answer.start;
        out->data[out->len] = '\0';
    }
    if (answer.over)
        return err_set(err, ERR_LIMIT, "%s %s: answer longer than %zu bytes", r->method, r->url,
                       r->max_bytes);
    return err_set(err, code_of(rc), "%s %s: %s", r->method, r->url,
                   words[0] != '\0' ? words : curl->easy_strerror(rc));
}

static int call(const struct curl *curl, const struct http_request *r, int *ret_status,
                struct buf *out, struct err *err)
{
    struct curl_slist *headers;
    CURL *easy;
    int rc;

    if (r->token != NULL && !is_one_line(r->token))
        return err_set(err, ERR_INVALID, "%s %s: the token is malformed", r->method, r->url);
    if (strspn(r->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(r->method))
        return err_set(err, ERR_INVALID, "'%s' is no HTTP method", r->method);
    easy = new_easy(curl, r->url, r->timeout_ms, !is_this_host(curl, r->url));
    if (easy == NULL)
        return err_set(err, ERR_INTERNAL, "%s %s: no HTTP client", r->method, r->url);
    headers = headers_of(curl, r);
    curl->easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    if (r->body != NULL)
        /* Not copied: that would silently send nothing of more than 8 MB. */
        curl->easy_setopt(easy, CURLOPT_POSTFIELDS, r->body);
    else if (strcmp(r->method, "HEAD") == 0)
        curl->easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (strcmp(r->method, "POST") == 0)
        curl->easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, "");
    curl->easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
    rc = perform(curl, easy, r, ret_status, out, err);
    curl->easy_cleanup(easy);
    curl->slist_free_all(headers);
    return rc;
}

int http_call(const struct http_request *r, int *ret_status, struct buf *out, struct err *err)
{
    struct curl curl;
    int rc = curl_load(&curl, CURL_LIBRARY, err);

    return rc < 0 ? rc : call(&curl, r, ret_status, out, err);
}

static size_t on_get_body(char *data, size_t size, size_t count, void *arg)
{
    struct http_get *g = arg;
    size_t len = size * count, room = GET_BODY_MAX - g->body.len;

    buf_append(&g->body, data, len < room ? len : room);
    return len; /* the rest is read and dropped: what counts is the status */
}

static void get_release(struct http_get *g)
{
    const struct curl *curl = &g->client->curl;

    curl->multi_remove_handle(g->client->multi, g->easy);
    curl->easy_cleanup(g->easy);
    g->easy = NULL;
    list_remove(&g->node);
}

static void finish(struct http_get *g, CURLcode rc)
{
    const struct curl *curl = &g->client->curl;
    long status = 0;

    if (rc == CURLE_OK)
        curl->easy_getinfo(g->easy, CURLINFO_RESPONSE_CODE, &status);
    else
        status = err_set(&g->err, code_of(rc), "%s", curl->easy_strerror(rc));
    get_release(g);
    g->done(g, (int)status);
}

static void client_destroy(struct http_client *c)
{
    if (c->multi != NULL)
        c->curl.multi_cleanup(c->multi); /* may still unwatch sockets */
    LIST_EACH (&c->sockets, n) {
        struct http_socket *s = CONTAINER_OF(n, struct http_socket, node);

        watch_stop(&s->watch);
        free(s);
    }
    timer_stop(&c->timer);
    free(c);
}

/* After libcurl did something: tells whose GET is over. May free the client. */
static void deliver(struct http_client *c)
{
    const struct curl *curl = &c->curl;
    CURLMsg *m;
    int left;

    c->delivering = true;
    while (!c->dead && (m = curl->multi_info_read(c->multi, &left)) != NULL) {
        struct http_get *g = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &g);
        finish(g, m->data.result);
    }
    c->delivering = false;
    if (c->dead)
        client_destroy(c);
}

static void on_socket_ready(struct watch *w, int events)
{
    struct http_socket *s = CONTAINER_OF(w, struct http_socket, watch);
    struct http_client *c = s->client;
    int running, flags = 0;

    if ((events & WATCH_READ) != 0)
        flags |= CURL_CSELECT_IN;
    if ((events & WATCH_WRITE) != 0)
        flags |= CURL_CSELECT_OUT;
    c->curl.multi_socket_action(c->multi, w->fd, flags, &running); /* may free s */
    deliver(c);
}

static void on_timeout(struct timer *t)
{
    struct http_client *c = CONTAINER_OF(t, struct http_client, timer);
    int running;

    c->curl.multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    deliver(c);
}

static int set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct http_client *c = arg;

    (void)multi;
    if (timeout_ms < 0)
        timer_stop(&c->timer);
    else
        timer_start(c->loop, &c->timer, timeout_ms, 0, on_timeout);
    return 0;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct http_client *c = arg;
    struct http_socket *s = socket_arg;
    int events = WATCH_NONE;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL) {
            watch_stop(&s->watch);
            list_remove(&s->node);
            free(s);
        }
        c->curl.multi_assign(c->multi, fd, NULL);
        return 0;
    }
    if (s == NULL) {
        s = mem_alloc(sizeof(*s));
        s->client = c;
        list_push(&c->sockets, &s->node);
        c->curl.multi_assign(c->multi, fd, s);
    }
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
        events |= WATCH_READ;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
        events |= WATCH_WRITE;
    watch_start(c->loop, &s->watch, fd, events, on_socket_ready);
    return 0;
}

struct http_client *http_client_new(struct loop *l)
{
    struct http_client *c = mem_alloc(sizeof(*c));

    c->loop = l;
    list_init(&c->gets);
    list_init(&c->sockets);
    return c;
}

/* Before the first GET. */
static int make_ready(struct http_client *c, struct err *err)
{
    struct curl *curl = &c->curl;
    int rc = c->multi != NULL ? 0 : curl_load(curl, CURL_LIBRARY, err);

    if (c->multi != NULL || rc < 0)
        return rc;
    c->multi = curl->multi_init();
    if (c->multi == NULL)
        return err_set(err, ERR_INTERNAL, "no HTTP client");
    curl->multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl->multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl->multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl->multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    return 0;
}

void http_client_free(struct http_client *c)
{
    if (c == NULL)
        return;
    LIST_EACH (&c->gets, n)
        get_release(CONTAINER_OF(n, struct http_get, node));
    c->dead = true;
    if (!c->delivering)
        client_destroy(c);
}

static bool is_http_url(const struct curl *curl, const char *url)
{
    CURLU *u = curl->url();
    char *scheme = NULL;
    bool is;

    is = u != NULL && curl->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
         curl->url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
         (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl->free(scheme);
    curl->url_cleanup(u);
    return is;
}

int http_get_start(struct http_client *c, struct http_get *g, const char *url, int64_t timeout_ms,
                   void (*done)(struct http_get *g, int status))
{
    const struct curl *curl = &c->curl;

    memset(g, 0, sizeof(*g));
    g->done = done;
    g->client = c;
    list_init(&g->node);
    if (make_ready(c, &g->err) < 0)
        return -(int)g->err.code;
    if (!is_http_url(curl, url))
        return err_set(&g->err, ERR_INVALID, "'%s' is no http URL", url);
    g->easy = new_easy(curl, url, timeout_ms, false);
    if (g->easy == NULL)
        return err_set(&g->err, ERR_INTERNAL, "no HTTP client");
    curl->easy_setopt(g->easy, CURLOPT_WRITEFUNCTION, on_get_body);
    curl->easy_setopt(g->easy, CURLOPT_WRITEDATA, g);
    curl->easy_setopt(g->easy, CURLOPT_PRIVATE, g);
    curl->easy_setopt(g->easy, CURLOPT_FRESH_CONNECT, 1L);
    curl->easy_setopt(g->easy, CURLOPT_FORBID_REUSE, 1L);
    list_push(&c->gets, &g->node);
    if (curl->multi_add_handle(c->multi, g->easy) != CURLM_OK) {
        list_remove(&g->node);
        curl->easy_cleanup(g->easy);
        g->easy = NULL;
        return err_set(&g->err, ERR_INTERNAL, "no HTTP client");
    }
    return 0;
}

void http_get_cancel(struct http_get *g)
{
    if (g->easy != NULL)
        get_release(g);
}
