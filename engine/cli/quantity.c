#include "cli/quantity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct unit {
    const char *name;
    double factor;
};

static const struct unit byte_units[] = {
    { "", 1 },      { "B", 1 },        { "kB", 1e3 },     { "MB", 1e6 },     { "GB", 1e9 },
    { "TB", 1e12 }, { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 }, { "TiB", 0x1p40 },
};
static const struct unit rate_units[] = {
    { "bit", 0.125 },  { "kbit", 125 },   { "Mbit", 125e3 }, { "Gbit", 125e6 },
    { "Tbit", 125e9 }, { "B", 1 },        { "kB", 1e3 },     { "MB", 1e6 },
    { "GB", 1e9 },     { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 },
};
static const struct unit share_units[] = { { "", 1 }, { "%", 0.01 } };
static const struct unit plain_units[] = { { "", 1 } };
static const struct unit time_units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 },  { "s", 1e9 },
                                          { "", 1e9 }, { "m", 6e10 }, { "h", 3.6e12 } };

static bool parse(const char *text, const struct unit *units, size_t count, const char *per,
                  double most, double *ret)
{
    size_t per_len = strlen(per);
    char *end;
    double n = strtod(text, &end);
    size_t len = strlen(end);

    if (end == text || !isfinite(n) || n < 0 || (*text < '0' && *text != '.') || *text > '9')
        return false;
    if (per_len > 0 && len > per_len && strcmp(end + len - per_len, per) == 0)
        len -= per_len;
    for (size_t i = 0; i < count; i++) {
        if (strlen(units[i].name) != len || memcmp(units[i].name, end, len) != 0)
            continue;
        if (n * units[i].factor > most)
            return false;
        *ret = n * units[i].factor;
        return true;
    }
    return false;
}

bool quantity_bytes(const char *text, double *ret)
{
    return parse(text, byte_units, COUNT_OF(byte_units), "", 1e18, ret);
}

bool quantity_rate(const char *text, double *ret)
{
    return parse(text, rate_units, COUNT_OF(rate_units), "/s", 1e15, ret);
}

bool quantity_share(const char *text, double *ret)
{
    return parse(text, share_units, COUNT_OF(share_units), "", 1, ret);
}

bool quantity_number(const char *text, double *ret)
{
    return parse(text, plain_units, COUNT_OF(plain_units), "", 1e15, ret);
}

bool quantity_ns(const char *text, int64_t *ret)
{
    double ns;

    if (!parse(text, time_units, COUNT_OF(time_units), "", 1e18, &ns))
        return false;
    *ret = (int64_t)ns;
    return true;
}
