/* The child of a policy host: it gives up whatever it could do to the machine, then answers
 * questions until its parent is gone. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "policy/eval.h"
#include "policy/frame.h"

#if defined(__SANITIZE_ADDRESS__)
enum { UNDER_SANITIZER = 1 };
#else
enum { UNDER_SANITIZER = 0 };
#endif

enum { CHILD_MEMORY_BYTES = 768 << 20, CALL_CPU_SECONDS = 5 };

static bool read_all(void *data, size_t len)
{
    for (char *at = data; len > 0;) {
        ssize_t n = read(STDIN_FILENO, at, len);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static bool write_all(const void *data, size_t len)
{
    for (const char *at = data; len > 0;) {
        ssize_t n = write(STDOUT_FILENO, at, len);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static bool send_json(json_t *json)
{
    AUTO_FREE char *text = json_text(json);
    json_decref(json);
    unsigned char head[FRAME_HEAD_BYTES];
    size_t len = strlen(text);
    frame_head(head, len);
    AUTO_BUF out = BUF_INIT;
    buf_append(&out, head, sizeof(head));
    buf_append(&out, text, len);
    return write_all(out.data, out.len);
}

static void limit(__rlimit_resource_t what, rlim_t value)
{
    struct rlimit r = { value, value };
    (void)setrlimit(what, &r); /* a limit that is already lower is as good */
}

/* From here on: no new privileges, files, processes or core dumps, and bounded memory. */
static void give_up_rights(void)
{
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_NPROC, 0);
    limit(RLIMIT_NOFILE, 0);
    if (!UNDER_SANITIZER) /* its shadow memory takes terabytes of address space */
        limit(RLIMIT_AS, CHILD_MEMORY_BYTES);
}

/* The parent kills us long before; this is for the case that it hangs itself. */
static void limit_call(void)
{
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) == 0) {
        rlim_t soft = (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + CALL_CPU_SECONDS;
        struct rlimit r = { soft, RLIM_INFINITY };
        (void)setrlimit(RLIMIT_CPU, &r);
    }
}

static json_t *answer(const json_t *request)
{
    struct err err = ERR_INIT;
    struct evaluation e = { .input = json_object_get(request, "input") };
    struct bundle *b = NULL;
    json_t *ok = NULL;
    int rc = bundle_from_json(&b, json_object_get(request, "bundle"), &err);
    if (rc == 0)
        rc = json_get_text(request, "question", 32, &e.question, &err);
    if (rc == 0) {
        e.bundle = b;
        rc = eval_ask(&ok, &e, &err);
    }
    bundle_free(b);
    if (rc < 0) {
        json_t *text = json_string(err.text); /* NULL if it quotes bytes that are not UTF-8 */
        return json_pack("{s:o}", "error", text ? text : json_string("an error not in UTF-8"));
    }
    return json_pack("{s:o}", "ok", ok);
}

int policy_host_main(void)
{
    json_object_seed(1); /* else jansson opens /dev/urandom, and orders differ from run to run */
    give_up_rights();
    if (getppid() == 1 || !send_json(json_pack("{s:b}", "ready", 1)))
        return 1;
    unsigned char head[FRAME_HEAD_BYTES];
    while (read_all(head, sizeof(head))) {
        size_t len = frame_len(head);
        if (len > FRAME_MAX_BYTES)
            return 1;
        limit_call();
        AUTO_FREE char *text = mem_alloc(len + 1);
        if (!read_all(text, len))
            return 1;
        struct err err = ERR_INIT;
        json_t *request;
        if (json_parse(&request, text, len, &err) < 0)
            return 1;
        bool sent = send_json(answer(request));
        json_decref(request);
        if (!sent)
            return 1;
    }
    return 0;
}
