/* The parent side of a policy host: it starts the child, asks, and kills it past the deadline. */
#include "policy/host.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/channel.h"
#include "io/files.h"
#include "policy/types.h"
#include "wire/utf8.h"

/* The deadline counts the child's processor time, so that a busy machine does not turn good
 * policies into holds; the wall clock bounds it all the same. */
enum { START_MS = 20000, CALL_WALL_MS = 2000 };

struct policy_host {
    char *engine_path;
    struct channel channel;
};

char *host_clean_text(char *text)
{
    for (char *at = text; *at != 0;) {
        size_t len = 1;
        while (len <= 4 && !utf8_valid(at, strnlen(at, len)))
            len++;
        if (len > 4) {
            *at = '?';
            len = 1;
        }
        at += strnlen(at, len);
    }
    return text;
}

int policy_host_new(struct policy_host **ret, const char *engine_path, struct err *err)
{
    *ret = NULL;
    if (!path_exists(engine_path))
        return err_set(err, ERR_NOT_FOUND, "policy host: %s: no such program", engine_path);
    struct policy_host *h = mem_alloc(sizeof(*h));
    h->engine_path = mem_strdup(engine_path);
    h->channel.fd = -1;
    *ret = h;
    return 0;
}

void policy_host_free(struct policy_host *h)
{
    if (h == NULL)
        return;
    channel_stop(&h->channel);
    free(h->engine_path);
    free(h);
}

static int host_start(struct policy_host *h, struct err *err)
{
    char verb[] = "policy-host";
    char *argv[] = { h->engine_path, verb, NULL };
    int rc = channel_start(&h->channel, argv, err);
    if (rc < 0)
        return err_wrap(err, "policy host");
    struct channel_limits limits = { .wall_ms = START_MS, .max_bytes = HOST_FRAME_BYTES };
    AUTO_BUF ready = BUF_INIT;
    rc = channel_exchange(&h->channel, NULL, &ready, &limits, err);
    if (rc == 0 && strcmp(buf_str(&ready), HOST_READY) == 0)
        return 0;
    channel_stop(&h->channel);
    return err_set(err, ERR_INTERNAL, "policy host: %s does not start", h->engine_path);
}

/* A child that died while nobody asked is started again. */
static int host_ensure(struct policy_host *h, struct err *err)
{
    if (channel_is_idle(&h->channel))
        return 0;
    channel_stop(&h->channel);
    return host_start(h, err);
}

static int fail_call(struct policy_host *h, const char *file, const char *question,
                     const struct err *why, struct err *err)
{
    int status = channel_stop(&h->channel);
    if (why->code == ERR_TIMEOUT)
        return err_set(err, ERR_TIMEOUT, "%s: %s: ran longer than %d ms", file, question,
                       POLICY_CALL_MS);
    if (why->code == ERR_UNREACHABLE && status >= 0 && WIFSIGNALED(status))
        return err_set(err, ERR_POLICY, "%s: %s: the policy host was killed by signal %d", file,
                       question, WTERMSIG(status));
    return err_set(err, ERR_POLICY, "%s: %s: %s", file, question, why->text);
}

/* Asks the child. One that was killed meanwhile (out of memory, say) is started and asked once more:
 * that is not the policy's fault, and a second time it may well be. */
static int host_exchange(struct policy_host *h, const struct buf *request, struct buf *answer,
                         struct err *err)
{
    const struct channel_limits limits = { CALL_WALL_MS, POLICY_CALL_MS, HOST_FRAME_BYTES };
    int rc = channel_exchange(&h->channel, request, answer, &limits, err);
    if (rc != -(int)ERR_UNREACHABLE)
        return rc;
    channel_stop(&h->channel);
    buf_reset(answer);
    rc = host_ensure(h, err);
    return rc < 0 ? rc : channel_exchange(&h->channel, request, answer, &limits, err);
}

/* One question; *ret is what the child made of it, unchecked. Gives *ret. */
static int host_ask(struct policy_host *h, const struct bundle *b, const char *question,
                    const json_t *input, json_t **ret, struct err *err)
{
    const char *file = bundle_main(b);
    AUTO_BUF request = BUF_INIT, answer = BUF_INIT;
    AUTO_FREE char *text = input ? json_text(input) : mem_strdup("null");
    if (strlen(text) > POLICY_INPUT_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "%s: %s: the input is longer than 1 MiB", file, question);
    json_t *json = bundle_to_json(b);
    AUTO_FREE char *files = json_text(json);
    json_decref(json);
    buf_printf(&request, "{\"bundle\":%s,\"question\":\"%s\",\"input\":%s}", files, question, text);
    int rc = host_ensure(h, err);
    if (rc < 0)
        return rc;
    struct err why = ERR_INIT;
    json_t *said = NULL;
    rc = host_exchange(h, &request, &answer, &why);
    if (rc == 0)
        rc = json_parse(&said, buf_str(&answer), answer.len, &why);
    if (rc < 0)
        return fail_call(h, file, question, &why, err);
    const char *error = json_string_value(json_object_get(said, "error"));
    *ret = json_incref(json_object_get(said, "ok"));
    if (*ret == NULL)
        rc = err_set(err, ERR_POLICY, "%s", error ? error : "the policy host gave no answer");
    json_decref(said);
    return rc;
}

int policy_data(struct policy_host *h, const struct bundle *b, json_t **ret, struct err *err)
{
    struct err why = ERR_INIT;
    json_t *raw = NULL;
    *ret = NULL;
    int rc = host_ask(h, b, "data", NULL, &raw, &why);
    if (rc == 0)
        rc = types_policy(ret, bundle_main(b), raw, &why);
    json_decref(raw);
    return rc < 0 ? err_set(err, why.code, "%s", host_clean_text(why.text)) : 0;
}

int policy_call(struct policy_host *h, const struct bundle *b, enum policy_question q,
                const json_t *input, json_t **ret, struct err *err)
{
    static const char *const names[] = { NULL, "build", "replicate", "waves", "advance" };
    struct err why = ERR_INIT;
    json_t *raw = NULL;
    *ret = NULL;
    int rc = host_ask(h, b, names[q], input, &raw, &why);
    if (rc == 0)
        rc = types_answer(ret, bundle_main(b), q, raw, &why);
    json_decref(raw);
    return rc < 0 ? err_set(err, why.code, "%s", host_clean_text(why.text)) : 0;
}
