#include "wire/msg.h"

#include <string.h>

#include "base/mem.h"

/* A field of struct msg_S; the array of negative size refuses, at compile time, a field whose width
 * is not the one that its kind stores. */
#define AT(S, f, width)           \
    offsetof(struct msg_##S, f) + \
        (sizeof(char[sizeof(((struct msg_##S *)0)->f) == (width) ? 1 : -1]) - 1)
#define U8(S, f)                           \
    {                                      \
#f, FIELD_U8, AT(S, f, 1), 0, NULL \
    }
#define U16(S, f)                           \
    {                                       \
#f, FIELD_U16, AT(S, f, 2), 0, NULL \
    }
#define U32(S, f)                           \
    {                                       \
#f, FIELD_U32, AT(S, f, 4), 0, NULL \
    }
#define U64(S, f)                           \
    {                                       \
#f, FIELD_U64, AT(S, f, 8), 0, NULL \
    }
#define HASH(S, f)                                    \
    {                                                 \
#f, FIELD_HASH, AT(S, f, HASH_BYTES), 0, NULL \
    }
#define TEXT(S, f, max)                                     \
    {                                                       \
#f, FIELD_TEXT, AT(S, f, sizeof(char *)), max, NULL \
    }
#define NAME(S, f) TEXT(S, f, NAME_MAX_BYTES)
#define JSON(S, f) TEXT(S, f, PREDICATE_TEXT_MAX)
#define BYTES(S, f, max)                                           \
    {                                                              \
#f, FIELD_BYTES, AT(S, f, sizeof(struct bytes)), max, NULL \
    }
#define LIST(S, f, E, max)                                                \
    {                                                                     \
#f, FIELD_LIST, AT(S, f, sizeof(struct list_of)), max, &E##_codec \
    }

#define MSG(S, ...)                                                                 \
    static const struct field S##_fields[] = { __VA_ARGS__ };                       \
    static const struct codec S##_codec = { #S, sizeof(struct msg_##S), S##_fields, \
                                            COUNT_OF(S##_fields) }

enum { PREDICATE_TEXT_MAX = 64 * 1024, BITMAP_MAX = LEAVES_MAX / 8 };

/* clang-format off */
MSG(hello, U16(hello, version), NAME(hello, cluster), U8(hello, role), NAME(hello, id),
    NAME(hello, region));
MSG(bye, U16(bye, code), TEXT(bye, reason, REASON_MAX_BYTES));
MSG(enrol, BYTES(enrol, secret, SECRET_BYTES), BYTES(enrol, request, CERTIFICATE_MAX));
MSG(enrolled, BYTES(enrolled, ca, CERTIFICATE_MAX), BYTES(enrolled, certificate, CERTIFICATE_MAX));
MSG(part, BYTES(part, bytes, PART_MAX_BYTES));
MSG(doc, U8(doc, kind), BYTES(doc, bytes, DOC_MAX_BYTES));

MSG(pack, HASH(pack, pack));
MSG(artifact, NAME(artifact, variant), HASH(artifact, artifact),
    LIST(artifact, packs, pack, PACKS_MAX));
MSG(replicate, NAME(replicate, deployment), LIST(replicate, artifacts, artifact, ARTIFACTS_MAX));
MSG(replica, HASH(replica, artifact), U8(replica, state), U64(replica, bytes),
    U64(replica, total), U64(replica, origin_bytes), TEXT(replica, reason, REASON_MAX_BYTES));
MSG(fleet_ask, U64(fleet_ask, ask), JSON(fleet_ask, select), JSON(fleet_ask, variant));
MSG(tally, TEXT(tally, name, LABEL_MAX_BYTES), U64(tally, count));
MSG(fleet, U64(fleet, ask), U64(fleet, total), U64(fleet, reachable),
    LIST(fleet, variants, tally, TALLIES_MAX));
MSG(number, U64(number, value));
MSG(quantile_ask, U64(quantile_ask, ask), NAME(quantile_ask, deployment),
    JSON(quantile_ask, where), LIST(quantile_ask, ranks, number, RULES_MAX));
MSG(quantile, U64(quantile, ask), U64(quantile, matching),
    LIST(quantile, thresholds, number, RULES_MAX));
MSG(rule, U32(rule, wave), JSON(rule, where), U64(rule, threshold));
MSG(plan, NAME(plan, deployment), NAME(plan, service), JSON(plan, select), JSON(plan, variant),
    HASH(plan, release), HASH(plan, rollback_to), U32(plan, waves),
    LIST(plan, rules, rule, RULES_MAX));
MSG(wave_counts, U32(wave_counts, wave), U64(wave_counts, total), U64(wave_counts, reachable),
    U64(wave_counts, staged), U64(wave_counts, activated), U64(wave_counts, healthy),
    U64(wave_counts, bad), U64(wave_counts, unknown), U64(wave_counts, rolled_back),
    U64(wave_counts, previous));
MSG(failure, NAME(failure, machine), NAME(failure, phase),
    TEXT(failure, reason, REASON_MAX_BYTES));
MSG(bucket, U16(bucket, index), U64(bucket, count));
MSG(pack_sent, HASH(pack_sent, pack), U64(pack_sent, bytes), U64(pack_sent, sent_bytes));
MSG(offender, NAME(offender, machine), U64(offender, by));
MSG(swarm, U64(swarm, machines), U64(swarm, done), U64(swarm, rated), U64(swarm, late),
    U64(swarm, refused), U64(swarm, by_limit), U64(swarm, by_link), U64(swarm, by_observed),
    LIST(swarm, ratios, bucket, BUCKETS_MAX), LIST(swarm, times, bucket, BUCKETS_MAX),
    U64(swarm, ratio_max), U64(swarm, ms_max), U64(swarm, near_bytes), U64(swarm, far_bytes),
    U64(swarm, stolen), U64(swarm, doubled), U64(swarm, useless), U64(swarm, bad),
    U64(swarm, edges), U64(swarm, stale), LIST(swarm, packs, pack_sent, PACKS_MAX),
    LIST(swarm, offenders, offender, OFFENDERS_MAX));
MSG(counts, NAME(counts, deployment), U64(counts, generation),
    LIST(counts, waves, wave_counts, WAVES_MAX + 1), U64(counts, staged_bytes),
    U64(counts, wanted_bytes), U64(counts, seed_bytes), U64(counts, peer_bytes),
    U64(counts, saved_bytes), U64(counts, drift), U64(counts, slots_used),
    LIST(counts, failures, failure, FAILURES_MAX), LIST(counts, swarm, swarm, 1));
MSG(running, HASH(running, release), U64(running, machines));
MSG(runs, NAME(runs, service), LIST(runs, releases, running, RUNS_MAX));

MSG(label, NAME(label, key), TEXT(label, value, LABEL_MAX_BYTES));
MSG(service, NAME(service, service), HASH(service, release), U64(service, generation),
    U8(service, verdict));
MSG(machine, LIST(machine, labels, label, LABELS_MAX), NAME(machine, boot),
    TEXT(machine, host, LABEL_MAX_BYTES), U16(machine, port),
    LIST(machine, services, service, SERVICES_MAX));
MSG(sources, NAME(sources, service), HASH(sources, release), HASH(sources, artifact),
    LIST(sources, packs, pack, PACKS_MAX));
MSG(banned, NAME(banned, machine));
MSG(fetch, U8(fetch, done), U8(fetch, rate_from), U64(fetch, rate), U64(fetch, ms),
    U64(fetch, bytes), U64(fetch, near_bytes), U64(fetch, far_bytes), U32(fetch, stolen),
    U32(fetch, doubled), U32(fetch, useless), U32(fetch, bad), U32(fetch, edges),
    U32(fetch, stale), LIST(fetch, banned, banned, BANNED_MAX));
MSG(progress, NAME(progress, service), NAME(progress, deployment), HASH(progress, release),
    U64(progress, staged_bytes), U64(progress, wanted_bytes), U64(progress, seed_bytes),
    U64(progress, peer_bytes), U64(progress, saved_bytes), LIST(progress, fetch, fetch, 1));
MSG(report, NAME(report, service), NAME(report, deployment), HASH(report, release),
    U64(report, generation), U64(report, activation), NAME(report, boot), U8(report, phase),
    U8(report, verdict), U64(report, at_ms), TEXT(report, reason, REASON_MAX_BYTES));
MSG(slot_ask, NAME(slot_ask, service), NAME(slot_ask, deployment), HASH(slot_ask, release),
    U64(slot_ask, generation));
MSG(slot, NAME(slot, service), NAME(slot, deployment), U8(slot, granted), U32(slot, lease_ms));
MSG(join, HASH(join, pack), BYTES(join, bitmap, BITMAP_MAX));
MSG(leave, HASH(leave, pack));
MSG(peer, NAME(peer, id), TEXT(peer, host, LABEL_MAX_BYTES), U16(peer, port), U8(peer, rack));
MSG(peers, HASH(peers, pack), LIST(peers, peers, peer, PEERS_MAX));

MSG(bitmap, HASH(bitmap, pack), BYTES(bitmap, bitmap, BITMAP_MAX));
MSG(index, U32(index, index));
MSG(have, HASH(have, pack), LIST(have, leaves, index, HAVES_MAX));
MSG(want, HASH(want, pack), U32(want, first), U32(want, count));
MSG(cancel, HASH(cancel, pack), U32(cancel, first), U32(cancel, count));
MSG(leaf, HASH(leaf, pack), U32(leaf, index), BYTES(leaf, bytes, LEAF_BYTES));
MSG(refuse, HASH(refuse, pack), U32(refuse, first), U32(refuse, count), U16(refuse, code));
MSG(object_ask, HASH(object_ask, object), U64(object_ask, offset));
MSG(object, HASH(object, object), U64(object, total), U64(object, offset),
    BYTES(object, bytes, OBJECT_CHUNK));
/* clang-format on */

/* PING and PONG: nothing. The struct's size is 1 only because memory must have some. */
static const struct codec ping_codec = { "ping", 1, NULL, 0 };
static const struct codec pong_codec = { "pong", 1, NULL, 0 };

/* clang-format off */
static const struct codec *const codecs[MSG_TYPE_END] = {
    [MSG_HELLO] = &hello_codec,
    [MSG_PING] = &ping_codec,
    [MSG_PONG] = &pong_codec,
    [MSG_BYE] = &bye_codec,
    [MSG_ENROL] = &enrol_codec,
    [MSG_ENROLLED] = &enrolled_codec,
    [MSG_PART] = &part_codec,
    [MSG_DOC] = &doc_codec,
    [MSG_REPLICATE] = &replicate_codec,
    [MSG_REPLICA] = &replica_codec,
    [MSG_FLEET_ASK] = &fleet_ask_codec,
    [MSG_FLEET] = &fleet_codec,
    [MSG_QUANTILE_ASK] = &quantile_ask_codec,
    [MSG_QUANTILE] = &quantile_codec,
    [MSG_PLAN] = &plan_codec,
    [MSG_COUNTS] = &counts_codec,
    [MSG_RUNS] = &runs_codec,
    [MSG_MACHINE] = &machine_codec,
    [MSG_SOURCES] = &sources_codec,
    [MSG_PROGRESS] = &progress_codec,
    [MSG_REPORT] = &report_codec,
    [MSG_SLOT_ASK] = &slot_ask_codec,
    [MSG_SLOT_FREE] = &slot_ask_codec,
    [MSG_SLOT] = &slot_codec,
    [MSG_JOIN] = &join_codec,
    [MSG_LEAVE] = &leave_codec,
    [MSG_PEERS] = &peers_codec,
    [MSG_BITMAP] = &bitmap_codec,
    [MSG_HAVE] = &have_codec,
    [MSG_WANT] = &want_codec,
    [MSG_LEAF] = &leaf_codec,
    [MSG_REFUSE] = &refuse_codec,
    [MSG_OBJECT_ASK] = &object_ask_codec,
    [MSG_OBJECT] = &object_codec,
    [MSG_CANCEL] = &cancel_codec,
};
/* clang-format on */

const struct codec *msg_codec(enum msg_type type)
{
    return (unsigned)type < MSG_TYPE_END ? codecs[type] : NULL;
}

const char *msg_name(enum msg_type type)
{
    const struct codec *c = msg_codec(type);

    if (type == MSG_SLOT_FREE)
        return "slot_free"; /* the one type that shares another's codec */
    return c == NULL ? "unknown" : c->name;
}

static void put_u32(unsigned char *b, size_t v)
{
    for (int i = 0; i < 4; i++)
        b[i] = (unsigned char)(v >> (8 * i));
}

/* The content of the last field, which is bytes. */
static size_t last_bytes(const struct codec *c, const void *msg)
{
    struct bytes bytes;

    memcpy(&bytes, (const char *)msg + c->fields[c->nfields - 1].offset, sizeof(bytes));
    return bytes.len;
}

static int frame(struct buf *out, enum msg_type type, const void *msg, bool head_only,
                 struct err *err)
{
    const struct codec *c = msg_codec(type);
    unsigned char head[5] = { 0, 0, 0, 0, (unsigned char)type };
    size_t start = out->len;
    size_t len;
    int r;

    if (c == NULL)
        return err_set(err, ERR_INTERNAL, "no message type %d", (int)type);
    buf_append(out, head, sizeof(head));
    r = head_only ? codec_encode_head(out, c, msg, err) : codec_encode(out, c, msg, err);
    len = out->len - start - 4;
    if (r == 0 && head_only)
        len += last_bytes(c, msg);
    if (r == 0 && len > FRAME_MAX)
        r = err_set(err, ERR_LIMIT, "%s: frame of %zu bytes, at most %d fit", msg_name(type), len,
                    FRAME_MAX);
    if (r < 0) {
        out->len = start;
        out->data[start] = '\0';
        return r;
    }
    put_u32((unsigned char *)out->data + start, len);
    return 0;
}

int msg_frame(struct buf *out, enum msg_type type, const void *msg, struct err *err)
{
    return frame(out, type, msg, false, err);
}

int msg_frame_head(struct buf *out, enum msg_type type, const void *msg, struct err *err)
{
    return frame(out, type, msg, true, err);
}

int msg_frame_bytes(const void *data, size_t len, size_t *ret_len, struct err *err)
{
    const unsigned char *b = data;
    size_t body;

    *ret_len = 0;
    if (len < 4)
        return 0;
    body = (size_t)b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16 | (size_t)b[3] << 24;
    if (body == 0 || body > FRAME_MAX)
        return err_set(err, ERR_INVALID, "frame of %zu bytes, 1 to %d may be", body, FRAME_MAX);
    if (len < 5)
        return 0;
    if (msg_codec(b[4]) == NULL)
        return err_set(err, ERR_INVALID, "unknown message type %u", b[4]);
    *ret_len = 4 + body;
    return 0;
}

int msg_next_frame(const void *data, size_t len, size_t *ret_len, enum msg_type *ret_type,
                   struct bytes *ret_payload, struct err *err)
{
    const unsigned char *b = data;
    size_t whole = 0;
    int r = msg_frame_bytes(data, len, &whole, err);

    *ret_len = 0;
    if (r < 0 || whole == 0 || len < whole)
        return r;
    *ret_len = whole;
    *ret_type = b[4];
    /* Borrowed bytes that nobody writes through; struct bytes has no const twin. */
    *ret_payload = (struct bytes){ (unsigned char *)(uintptr_t)(b + 5), whole - 5 };
    return 0;
}
