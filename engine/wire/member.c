#include "wire/member.h"

#include <string.h>

#include "base/buf.h"
#include "base/sha256.h"

uint64_t wave_hash(const char *deployment, const char *machine)
{
    AUTO_BUF text = BUF_INIT;
    struct hash h;
    uint64_t v = 0;

    buf_append(&text, "slipway.wave", sizeof("slipway.wave"));
    buf_append(&text, deployment, strlen(deployment) + 1);
    buf_str_append(&text, machine);
    h = sha256_of(text.data, text.len);
    for (size_t i = 0; i < 8; i++)
        v = v << 8 | h.b[i];
    return v;
}
