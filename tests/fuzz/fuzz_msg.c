#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "wire/msg.h"

/* The frame's head and the bytes that lie behind it are the frame. */
static void check_head(enum msg_type type, const void *msg, const struct buf *whole)
{
    const struct codec *c = msg_codec(type);
    AUTO_BUF head = BUF_INIT;
    struct err err = ERR_INIT;
    struct bytes last;

    if (c->nfields == 0 || c->fields[c->nfields - 1].kind != FIELD_BYTES)
        return;
    memcpy(&last, (const char *)msg + c->fields[c->nfields - 1].offset, sizeof(last));
    if (msg_frame_head(&head, type, msg, &err) < 0 || head.len + last.len != whole->len ||
        memcmp(head.data, whole->data, head.len) != 0)
        abort();
}

/* Without copies it is the same. */
static void check_view(enum msg_type type, const struct bytes *payload, const struct buf *whole)
{
    AUTO_BUF again = BUF_INIT;
    struct err err = ERR_INIT;
    void *view = NULL;

    if (codec_view(&view, msg_codec(type), payload->data, payload->len, &err) < 0 ||
        msg_frame(&again, type, view, &err) < 0 || again.len != whole->len ||
        memcmp(again.data, whole->data, again.len) != 0)
        abort();
    codec_view_free(msg_codec(type), view);
}

/* A stream of frames, as link reads it; what decodes, encodes to the same payload. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size > 0) {
        struct err err = ERR_INIT;
        enum msg_type type = MSG_NONE;
        struct bytes payload;
        AUTO_BUF b = BUF_INIT;
        void *msg = NULL;
        size_t len = 0;

        if (msg_next_frame(data, size, &len, &type, &payload, &err) < 0 || len == 0)
            return 0;
        if (codec_decode(&msg, msg_codec(type), payload.data, payload.len, &err) == 0) {
            if (msg_frame(&b, type, msg, &err) < 0 || b.len != len ||
                memcmp(b.data, data, len) != 0)
                abort();
            check_head(type, msg, &b);
            check_view(type, &payload, &b);
            codec_free(msg_codec(type), msg);
        } else if (codec_view(&msg, msg_codec(type), payload.data, payload.len, &err) == 0) {
            abort();
        }
        data += len;
        size -= len;
    }
    return 0;
}
