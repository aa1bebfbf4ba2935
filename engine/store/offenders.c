#include "store/offenders.h"

struct offenders offenders_of(const struct exchange *x, const struct link_identity *self,
                              uint64_t refused)
{
    struct link_counts links = link_identity_counts(self);

    return (struct offenders){ .bad_leaves = exchange_counts(x).bad_leaves,
                               .malformed = links.malformed,
                               .banned = links.denied,
                               .refused = refused };
}

bool offenders_any(const struct offenders *o)
{
    return o->bad_leaves + o->malformed + o->banned + o->refused > 0;
}

void offenders_text(struct buf *out, const struct offenders *o)
{
    buf_printf(out,
               "%llu machines banned, %llu bad leaves, %llu malformed messages, %llu connections "
               "refused",
               (unsigned long long)o->banned, (unsigned long long)o->bad_leaves,
               (unsigned long long)o->malformed, (unsigned long long)o->refused);
}

void offenders_json(struct buf *out, const struct offenders *o)
{
    buf_printf(out, "\"banned\":%llu,\"bad_leaves\":%llu,\"malformed\":%llu,\"refused\":%llu",
               (unsigned long long)o->banned, (unsigned long long)o->bad_leaves,
               (unsigned long long)o->malformed, (unsigned long long)o->refused);
}
