/* The child of a policy host: it gives up whatever it could do to the machine, then answers
 * questions until its parent is gone. */
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/channel.h"
#include "policy/eval.h"
#include "policy/host.h"

#if defined(__SANITIZE_ADDRESS__)
enum { UNDER_SANITIZER = 1 };
#else
enum { UNDER_SANITIZER = 0 };
#endif

enum { CHILD_MEMORY_BYTES = 768 << 20, CALL_CPU_SECONDS = 5 };

static bool send_json(json_t *json)
{
    AUTO_FREE char *text = json_text(json);
    json_decref(json);
    return channel_write(STDOUT_FILENO, text, strlen(text));
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
    if (!channel_write(STDOUT_FILENO, HOST_READY, strlen(HOST_READY)))
        return 1;
    AUTO_BUF frame = BUF_INIT;
    while (channel_read(STDIN_FILENO, &frame, HOST_FRAME_BYTES)) {
        struct err err = ERR_INIT;
        json_t *request;
        limit_call();
        if (json_parse(&request, frame.data, frame.len, &err) < 0)
            return 1;
        bool sent = send_json(answer(request));
        json_decref(request);
        if (!sent)
            return 1;
    }
    return 0;
}
