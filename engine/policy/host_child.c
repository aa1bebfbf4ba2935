/* The child of a policy host: it gives up whatever it could do to the machine, then answers
 * questions until its parent is gone. */
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/channel.h"
#include "policy/confine.h"
#include "policy/eval.h"
#include "policy/host.h"

enum { CALL_CPU_SECONDS = 5 };

static bool send_json(json_t *json)
{
    AUTO_FREE char *text = json_text(json);
    json_decref(json);
    return channel_write(STDOUT_FILENO, text, strlen(text));
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
    if (rc < 0)
        return json_pack("{s:s}", "error", host_clean_text(err.text));
    return json_pack("{s:o}", "ok", ok);
}

int policy_host_main(void)
{
    json_object_seed(1); /* else jansson opens /dev/urandom, and orders differ from run to run */
    confine_self();
    if (!channel_write(STDOUT_FILENO, HOST_READY, strlen(HOST_READY)))
        return 1;
    AUTO_BUF frame = BUF_INIT;
    while (channel_read(STDIN_FILENO, &frame, HOST_FRAME_BYTES)) {
        struct err err = ERR_INIT;
        json_t *request;
        confine_cpu_seconds(CALL_CPU_SECONDS);
        if (json_parse(&request, frame.data, frame.len, &err) < 0)
            return 1;
        bool sent = send_json(answer(request));
        json_decref(request);
        if (!sent)
            return 1;
    }
    return 0;
}
