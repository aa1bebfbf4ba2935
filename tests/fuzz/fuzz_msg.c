#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "wire/msg.h"

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
            codec_free(msg_codec(type), msg);
        }
        data += len;
        size -= len;
    }
    return 0;
}
