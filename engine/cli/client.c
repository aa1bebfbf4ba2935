#include "cli/client.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/fleet.h"
#include "cli/terminal.h"
#include "io/files.h"
#include "io/http.h"

enum { ANSWER_MAX_BYTES = 64 << 20, CALL_MS = 30000 };

struct client {
    char *url, *token;
    struct fleet *fleet; /* a control plane of our own, for this verb */
};

struct client *client_new(const char *url, const char *token)
{
    struct client *c = mem_alloc(sizeof(*c));

    c->url = mem_strdup(url);
    while (*c->url != '\0' && c->url[strlen(c->url) - 1] == '/')
        c->url[strlen(c->url) - 1] = '\0';
    c->token = token == NULL ? NULL : mem_strdup(token);
    return c;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    if (c->fleet != NULL)
        fleet_stop(c->fleet);
    free(c->url);
    free(c->token);
    free(c);
}

/* A local system that runs and answers? */
static int open_running(struct client **ret, const char *state_dir)
{
    AUTO_FREE char *path = mem_printf("%s/engine.json", state_dir);
    AUTO_BUF text = BUF_INIT;
    AUTO_JSON *o = NULL, *answer = NULL;
    const char *url, *token;
    struct client *c;

    if (file_read(&text, path, 65536, NULL) < 0 || json_parse(&o, text.data, text.len, NULL) < 0 ||
        json_get_text(o, "url", 4096, &url, NULL) < 0 ||
        json_get_text(o, "token", 4096, &token, NULL) < 0)
        return -1;
    c = client_new(url, token);
    if (client_get(c, "/v1/regions", 2000, &answer, NULL) < 0) {
        client_close(c);
        return -1;
    }
    *ret = c;
    return 0;
}

int client_open(struct client **ret, const struct globals *g, struct err *err)
{
    struct fleet_options o = { .state_dir = g->state_dir,
                               .db = getenv("ENGINE_DB"),
                               .control_only = true };
    AUTO_FREE char *keys = mem_printf("%s/keys", g->state_dir);
    struct fleet *f;
    int rv;

    if (g->engine != NULL) {
        *ret = client_new(g->engine, getenv("ENGINE_TOKEN"));
        return 0;
    }
    if (!path_is_dir(keys))
        return err_set(
            err, ERR_NOT_FOUND,
            "%s is no state directory: name one by --state, or a control plane by --engine "
            "URL",
            g->state_dir);
    if (open_running(ret, g->state_dir) == 0)
        return 0;
    rv = fleet_open(&f, &o, err);
    if (rv < 0)
        return rv;
    rv = fleet_start(f, err);
    if (rv < 0) {
        fleet_stop(f);
        return rv;
    }
    *ret = client_new(fleet_url(f), fleet_token(f));
    (*ret)->fleet = f;
    return 0;
}

void client_path_segment(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (isalnum((unsigned char)*text) || strchr("-._~@", *text) != NULL)
            buf_char(out, *text);
        else
            buf_printf(out, "%%%02X", (unsigned)(unsigned char)*text);
    }
}

static enum err_code code_of(const char *name, int status)
{
    for (enum err_code code = ERR_IO; code <= ERR_INTERNAL; code++)
        if (strcmp(err_name(code), name) == 0)
            return code;
    if (status == 401 || status == 403)
        return ERR_DENIED;
    return status == 404 ? ERR_NOT_FOUND : ERR_INTERNAL;
}

static int server_said_no(int status, const struct buf *body, struct err *err)
{
    AUTO_JSON *o = NULL;
    const json_t *e;
    const char *code, *text;

    if (json_parse(&o, body->data, body->len, NULL) == 0 &&
        json_get_object(o, "error", &e, NULL) == 0 &&
        json_get_text(e, "code", 64, &code, NULL) == 0 &&
        json_get_text(e, "text", 65536, &text, NULL) == 0)
        return err_set(err, code_of(code, status), "%s%s", text,
                       status == 401 ? " (ENGINE_TOKEN: as in admin.token of the control plane)"
                                     : "");
    return err_set(err, code_of("", status), "the control plane answered %d", status);
}

static int call(struct client *c, const char *method, const char *path, const char *body,
                int64_t timeout_ms, struct buf *out, struct err *err)
{
    AUTO_FREE char *url = mem_printf("%s%s", c->url, path);
    struct http_request r = { .method = method,
                              .url = url,
                              .token = c->token,
                              .body = body,
                              .timeout_ms = timeout_ms,
                              .max_bytes = ANSWER_MAX_BYTES };
    int status, rv = http_call(&r, &status, out, err);

    /* That --timeout has passed is something else. */
    if (rv == -ERR_TIMEOUT)
        return err_set(err, ERR_UNREACHABLE, "%s does not answer", c->url);
    if (rv < 0)
        return rv;
    return status >= 400 ? server_said_no(status, out, err) : 0;
}

static int take_answer(json_t **ret, const struct buf *text, struct err *err)
{
    int rv = json_parse(ret, text->data, text->len, err);

    if (rv == 0)
        terminal_tame_json(*ret);
    return rv;
}

int client_get(struct client *c, const char *path, int64_t timeout_ms, json_t **ret,
               struct err *err)
{
    AUTO_BUF out = BUF_INIT;
    int rv = call(c, "GET", path, NULL, timeout_ms, &out, err);

    return rv < 0 ? rv : take_answer(ret, &out, err);
}

int client_post(struct client *c, const char *path, const json_t *body, json_t **ret,
                struct err *err)
{
    AUTO_BUF out = BUF_INIT;
    AUTO_FREE char *text = json_text(body);
    int rv = call(c, "POST", path, text, CALL_MS, &out, err);

    return rv < 0 ? rv : take_answer(ret, &out, err);
}

int client_text(struct client *c, const char *path, struct buf *out, struct err *err)
{
    return call(c, "GET", path, NULL, CALL_MS, out, err);
}

const char *client_actor(void)
{
    const char *user = getenv("USER");

    return user != NULL && *user != '\0' ? user : getuid() == 0 ? "root" : "operator";
}
