#include "wire/reference.h"

#include <stdlib.h>
#include <string.h>

#include "base/hex.h"

enum { HEX_DIGITS = 2 * HASH_BYTES, SECRET_DIGITS = 2 * SECRET_BYTES, PORT_MAX = 65535 };

static const char scheme[] = "slipway://";

void reference_write(struct buf *out, const struct reference *r)
{
    bool v6 = strchr(r->host, ':') != NULL;
    char artifact[HASH_HEX], pack[HASH_HEX], pin[HASH_HEX], secret[SECRET_DIGITS + 1];

    hex_encode(secret, r->secret, SECRET_BYTES);
    buf_printf(out, "%s%s%s%s:%d/%s/%s/%s#%s.%s", scheme, v6 ? "[" : "", r->host, v6 ? "]" : "",
               r->port, r->is_file ? "file" : "tree", hash_hex(&r->artifact, artifact),
               hash_hex(&r->pack, pack), hash_hex(&r->pin, pin), secret);
}

/* HOST:PORT of len bytes. */
static bool parse_address(struct reference *r, const char *text, size_t len)
{
    const char *colon = memrchr(text, ':', len);
    size_t host = colon == NULL ? 0 : (size_t)(colon - text);
    char *end;

    if (colon == NULL || colon[1] < '0' || colon[1] > '9')
        return false;
    r->port = (int)strtol(colon + 1, &end, 10);
    if (end != text + len || len - host > 6 || r->port < 1 || r->port > PORT_MAX)
        return false;
    if (host > 2 && text[0] == '[' && text[host - 1] == ']') {
        text++;
        host -= 2;
    }
    if (host == 0 || host > LABEL_MAX_BYTES)
        return false;
    memcpy(r->host, text, host);
    r->host[host] = '\0';
    return true;
}

/* n digits, then the byte that follows; moves *at behind it. */
static bool take_hex(void *out, size_t bytes, const char **at, char next)
{
    char digits[HASH_HEX];
    size_t n = bytes * 2;

    if (strnlen(*at, n + 1) < n || (*at)[n] != next)
        return false;
    memcpy(digits, *at, n);
    digits[n] = '\0';
    *at += n + (next == '\0' ? 0 : 1);
    return hex_decode(out, bytes, digits);
}

static bool take_kind(struct reference *r, const char **at)
{
    r->is_file = strncmp(*at, "file/", 5) == 0;
    if (!r->is_file && strncmp(*at, "tree/", 5) != 0)
        return false;
    *at += 5;
    return true;
}

int reference_parse(struct reference *ret, const char *text, struct err *err)
{
    const char *at = text + sizeof(scheme) - 1, *slash;

    memset(ret, 0, sizeof(*ret));
    if (strncmp(text, scheme, sizeof(scheme) - 1) != 0 || strlen(text) > REFERENCE_MAX)
        return err_set(err, ERR_INVALID, "a reference begins with %s", scheme);
    slash = strchr(at, '/');
    if (slash == NULL || !parse_address(ret, at, (size_t)(slash - at)))
        return err_set(err, ERR_INVALID, "reference: no HOST:PORT behind %s", scheme);
    at = slash + 1;
    if (!take_kind(ret, &at))
        return err_set(err, ERR_INVALID, "reference: neither file nor tree");
    if (!take_hex(ret->artifact.b, HASH_BYTES, &at, '/') ||
        !take_hex(ret->pack.b, HASH_BYTES, &at, '#'))
        return err_set(err, ERR_INVALID, "reference: artifact and pack are 64 hex digits each");
    if (!take_hex(ret->pin.b, HASH_BYTES, &at, '.') ||
        !take_hex(ret->secret, SECRET_BYTES, &at, '\0'))
        return err_set(err, ERR_INVALID, "reference: pin and secret are 64 and 32 hex digits");
    return 0;
}
