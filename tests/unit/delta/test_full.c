#include <stdlib.h>
#include <zstd.h>

#include "base/mem.h"
#include "delta/full.h"
#include "lib/check.h"
#include "lib/trees.h"

/* A pack in memory. */
static int write_at(void *ctx, const void *data, size_t len, uint64_t offset, struct err *err)
{
    struct buf *b = ctx;

    (void)err;
    if (offset + len > b->len) {
        buf_reserve(b, (size_t)offset + len - b->len);
        b->len = (size_t)offset + len;
    }
    memcpy(b->data + offset, data, len);
    return 0;
}

static int read_at(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct buf *b = ctx;

    if (offset > b->len || len > b->len - offset)
        return err_set(err, ERR_CORRUPT, "ends early");
    memcpy(data, b->data + offset, len);
    return 0;
}

/* An artifact of one file: three segments, one that compresses, one that does not, one short. */
struct sample {
    struct manifest m;
    struct entry entry;
    struct hash segments[3];
    struct hash artifact;
    unsigned char *stream;
    struct buf pack;
};

enum { TAIL = 1000 };

static void sample_init(struct sample *s)
{
    struct random r = { 99 };
    static char path[] = "f";

    memset(s, 0, sizeof(*s));
    s->m = (struct manifest){ &s->entry, 1, 2 * SEGMENT_BYTES + TAIL, s->segments, 3 };
    s->entry = (struct entry){ .kind = ENTRY_FILE, .path = path, .size = s->m.stream_bytes };
    s->stream = mem_alloc((size_t)s->m.stream_bytes);
    for (size_t i = 0; i < SEGMENT_BYTES; i++) {
        s->stream[i] = (unsigned char)(i / 1000);
        s->stream[SEGMENT_BYTES + i] = (unsigned char)random_next(&r);
    }
    memset(s->stream + 2 * SEGMENT_BYTES, 'x', TAIL);
    for (size_t i = 0; i < 3; i++)
        s->segments[i] =
            merkle_segment(s->stream + i * SEGMENT_BYTES, manifest_segment_bytes(&s->m, i));
    s->artifact = sha256_of("an artifact", 11);
}

static void encode(struct sample *s)
{
    struct err err = ERR_INIT;
    struct full_encoder *e = NULL;
    uint64_t bytes = 0;

    assert_ok(full_encoder_new(&e, 3, FULL_LEVEL, write_at, &s->pack, &err), &err);
    for (size_t i = 0; i < 3; i++)
        assert_ok(full_encoder_add(e, s->stream + i * SEGMENT_BYTES,
                                   manifest_segment_bytes(&s->m, i), &err),
                  &err);
    assert_ok(full_encoder_finish(e, &s->artifact, &bytes, &err), &err);
    assert_int_equal(bytes, s->pack.len);
    full_encoder_free(e);
}

static void sample_release(struct sample *s)
{
    free(s->stream);
    buf_release(&s->pack);
}

static void test_round_trip(void **state)
{
    struct full_decoder *d = full_decoder_new();
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    struct err err = ERR_INIT;
    struct full *f = NULL;
    struct sample s;
    uint32_t first = 0, count = 0;

    (void)state;
    sample_init(&s);
    encode(&s);
    assert_ok(full_read(&f, read_at, &s.pack, s.pack.len, &s.m, &s.artifact, &err), &err);
    assert_int_equal(f->segments[0].encoding, SEGMENT_ZSTD);
    assert_int_equal(f->segments[1].encoding, SEGMENT_STORED);
    assert_int_equal(f->segments[1].length, SEGMENT_BYTES);
    for (size_t i = 3; i-- > 0;) {
        assert_ok(full_read_segment(d, f, &s.m, i, read_at, &s.pack, out, &err), &err);
        assert_memory_equal(out, s.stream + i * SEGMENT_BYTES, manifest_segment_bytes(&s.m, i));
    }
    full_segment_leaves(f, 0, &first, &count);
    assert_int_equal(first, 0);
    assert_int_equal(count, 1);
    full_segment_leaves(f, 1, &first, &count);
    assert_int_equal(first, 0);
    assert_int_equal(count, 17); /* 16 leaves of bytes that begin in the middle of one */
    full_free(f);
    full_decoder_free(d);
    free(out);
    sample_release(&s);
}

static void test_encoder_misuse(void **state)
{
    struct err err = ERR_INIT;
    struct full_encoder *e = NULL;
    AUTO_BUF b = BUF_INIT;
    uint64_t bytes = 0;
    struct hash h = { { 0 } };

    (void)state;
    assert_error(full_encoder_new(&e, FULL_SEGMENTS_MAX + 1, 3, write_at, &b, &err), ERR_LIMIT,
                 &err, "at most 65536");
    assert_error(full_encoder_new(&e, 1, 0, write_at, &b, &err), ERR_INVALID, &err, "level 0");
    assert_error(full_encoder_new(&e, 1, 20, write_at, &b, &err), ERR_INVALID, &err, "level 20");
    assert_ok(full_encoder_new(&e, 1, 1, write_at, &b, &err), &err);
    assert_error(full_encoder_finish(e, &h, &bytes, &err), ERR_INTERNAL, &err, "0 of 1");
    assert_error(full_encoder_add(e, "", 0, &err), ERR_INTERNAL, &err, "of 0 bytes");
    assert_ok(full_encoder_add(e, "x", 1, &err), &err);
    assert_error(full_encoder_add(e, "x", 1, &err), ERR_INTERNAL, &err, "segment 1 of 1");
    full_encoder_free(e);
    full_encoder_free(NULL);
}

static int no_space(void *ctx, const void *data, size_t len, uint64_t offset, struct err *err)
{
    (void)ctx;
    (void)data;
    (void)len;
    (void)offset;
    return err_set(err, ERR_NO_SPACE, "disk full");
}

static void test_the_sinks_failure_comes_back(void **state)
{
    struct err err = ERR_INIT;
    struct full_encoder *e = NULL;

    (void)state;
    assert_ok(full_encoder_new(&e, 1, 1, no_space, NULL, &err), &err);
    assert_error(full_encoder_add(e, "x", 1, &err), ERR_NO_SPACE, &err, "disk full");
    full_encoder_free(e);
}

static void put_u32(char *at, size_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (char)(unsigned char)(v >> (8 * i));
}

static void refuse(const struct sample *s, size_t at, const char *bytes, size_t len,
                   const char *part)
{
    size_t head = full_header_bytes(3);
    char *copy = mem_dup(s->pack.data, head);
    struct err err = ERR_INIT;
    struct full *f = NULL;

    memcpy(copy + at, bytes, len);
    assert_error(full_parse(&f, copy, head, s->pack.len, &s->m, &s->artifact, &err), ERR_INVALID,
                 &err, part);
    free(copy);
}

static void test_malformed_headers(void **state)
{
    size_t row = full_header_bytes(0);
    struct err err = ERR_INIT;
    struct full *f = NULL;
    char length[4];
    struct sample s;

    (void)state;
    sample_init(&s);
    encode(&s);
    refuse(&s, 0, "SLP1", 4, "does not begin with SLP2");
    refuse(&s, 4, "\2", 1, "is of kind 2");
    refuse(&s, 5, "\0\0", 2, "of another artifact");
    refuse(&s, 37, "\4", 1, "4 segments, the artifact has 3");
    refuse(&s, row, "\0", 1, "segment 0: unknown encoding 0");
    refuse(&s, row, "\3", 1, "segment 0: unknown encoding 3");
    refuse(&s, row, "\1", 1, "segment 0:"); /* stored, but shorter than the segment */
    refuse(&s, row + 1, "\0\0\0\0", 4, "segment 0: 0 bytes");
    put_u32(length, SEGMENT_BYTES);
    refuse(&s, row + 1, length, 4, "segment 0: 4194304 bytes for 4194304");
    put_u32(length, SEGMENT_BYTES - 1);
    refuse(&s, row + 1, length, 4, "segment 1 ends behind the pack");
    refuse(&s, row + 11, "\1\0\0\0", 4, "bytes left over");
    for (size_t len = 0; len < full_header_bytes(3); len++)
        assert_error(full_parse(&f, s.pack.data, len, s.pack.len, &s.m, &s.artifact, &err),
                     ERR_INVALID, &err, "full pack");
    assert_error(full_parse(&f, s.pack.data, full_header_bytes(3), 10, &s.m, &s.artifact, &err),
                 ERR_INVALID, &err, "its table alone");
    assert_error(full_read(&f, read_at, &s.pack, 10, &s.m, &s.artifact, &err), ERR_INVALID, &err,
                 "cannot hold 3 segments");
    sample_release(&s);
}

/* All are stored: the leaves behind the header are the stream's. */
static void test_an_aligned_stream(void **state)
{
    enum { HEADER = LEAF_BYTES, LEAVES = 1 + (FULL_ALIGNED_FROM - 1) * MERKLE_FANOUT + 2 };
    size_t bytes = (size_t)(FULL_ALIGNED_FROM - 1) * SEGMENT_BYTES + LEAF_BYTES + 77;
    struct hash segments[FULL_ALIGNED_FROM], leaves[LEAVES], artifact = { { 1 } };
    struct manifest m = { .stream_bytes = bytes, .segments = segments };
    struct pack_index x = { .leaves = leaves, .nleaves = LEAVES };
    unsigned char *stream = mem_alloc(SEGMENT_BYTES);
    struct full_encoder *e = NULL;
    struct full *f = NULL;
    struct err err = ERR_INIT;
    struct random r = { 9 };
    AUTO_BUF pack = BUF_INIT;

    (void)state;
    assert_int_not_equal(full_header_bytes(FULL_ALIGNED_FROM - 1) % LEAF_BYTES, 0);
    assert_int_equal(full_header_bytes(FULL_ALIGNED_FROM), HEADER);
    assert_int_equal(full_header_bytes(FULL_SEGMENTS_MAX) % LEAF_BYTES, 0);
    random_fill(&r, stream, SEGMENT_BYTES);
    m.nsegments = FULL_ALIGNED_FROM;
    assert_ok(full_encoder_new(&e, m.nsegments, 1, write_at, &pack, &err), &err);
    for (size_t i = 0; i < m.nsegments; i++) {
        size_t len = manifest_segment_bytes(&m, i);

        stream[7] = (unsigned char)i;
        assert_ok(full_encoder_add(e, stream, len, &err), &err);
        segments[i] = merkle_segment(stream, len);
    }
    assert_ok(full_encoder_finish(e, &artifact, &x.bytes, &err), &err);
    full_encoder_free(e);
    assert_int_equal(x.bytes, HEADER + bytes);
    assert_true(full_is_aligned_stream(&m, x.bytes));
    assert_false(full_is_aligned_stream(&m, x.bytes - 1));
    assert_ok(full_read(&f, read_at, &pack, pack.len, &m, &artifact, &err), &err);
    assert_int_equal(f->segments[1].offset, HEADER + SEGMENT_BYTES);
    full_free(f);
    for (size_t i = 0; i < LEAVES; i++)
        leaves[i] = merkle_leaf(pack.data + i * LEAF_BYTES, pack_leaf_bytes(&x, i));
    assert_ok(full_check_index(&m, &x, &err), &err);
    leaves[LEAVES - 1].b[9] ^= 1;
    assert_error(full_check_index(&m, &x, &err), ERR_CORRUPT, &err, "segment 31");
    pack.data[HEADER - 1] = 1;
    assert_error(full_read(&f, read_at, &pack, pack.len, &m, &artifact, &err), ERR_INVALID, &err,
                 "no zeros");
    free(stream);
}

/* No changed payload decodes: what comes out is what the manifest promises, or nothing. */
static void test_flipped_payload_bits(void **state)
{
    struct full_decoder *d = full_decoder_new();
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    struct random r = { 5 };
    struct err err = ERR_INIT;
    struct full *f = NULL;
    struct sample s;

    (void)state;
    sample_init(&s);
    encode(&s);
    assert_ok(full_read(&f, read_at, &s.pack, s.pack.len, &s.m, &s.artifact, &err), &err);
    for (size_t round = 0; round < 200; round++) {
        size_t i = round % 3;
        size_t at = (size_t)(f->segments[i].offset + random_below(&r, f->segments[i].length));

        s.pack.data[at] = (char)(s.pack.data[at] ^ 1 << (round % 8));
        if (full_read_segment(d, f, &s.m, i, read_at, &s.pack, out, &err) == 0)
            assert_memory_equal(out, s.stream + i * SEGMENT_BYTES, manifest_segment_bytes(&s.m, i));
        else
            assert_int_equal(err.code, ERR_CORRUPT);
        s.pack.data[at] = (char)(s.pack.data[at] ^ 1 << (round % 8));
    }
    s.pack.len--;
    assert_error(full_read_segment(d, f, &s.m, 2, read_at, &s.pack, out, &err), ERR_CORRUPT, &err,
                 "segment 2: ends early");
    full_free(f);
    full_decoder_free(d);
    free(out);
    sample_release(&s);
}

/* Frames that zstd would decode but that are not ours to take. */
static void test_foreign_frames(void **state)
{
    struct full_decoder *d = full_decoder_new();
    unsigned char *out = mem_alloc(SEGMENT_BYTES);
    struct full_segment row = { .encoding = SEGMENT_ZSTD };
    struct full f = { &row, 1 };
    struct err err = ERR_INIT;
    struct sample s;
    char frame[512];
    ZSTD_CCtx *zstd = ZSTD_createCCtx();

    (void)state;
    sample_init(&s);
    s.m.stream_bytes = TAIL;
    s.m.nsegments = 1;
    s.segments[0] = merkle_segment(s.stream + 2 * SEGMENT_BYTES, TAIL);
    /* another size */
    row.length = (uint32_t)ZSTD_compress2(zstd, frame, sizeof(frame), s.stream + 2 * SEGMENT_BYTES,
                                          TAIL - 1);
    buf_append(&s.pack, frame, row.length);
    assert_error(full_read_segment(d, &f, &s.m, 0, read_at, &s.pack, out, &err), ERR_CORRUPT, &err,
                 "not of 1000 bytes");
    /* right, with something behind it */
    buf_reset(&s.pack);
    row.length =
        (uint32_t)ZSTD_compress2(zstd, frame, sizeof(frame), s.stream + 2 * SEGMENT_BYTES, TAIL);
    buf_append(&s.pack, frame, row.length);
    buf_append(&s.pack, frame, row.length);
    assert_ok(full_read_segment(d, &f, &s.m, 0, read_at, &s.pack, out, &err), &err);
    row.length *= 2;
    assert_error(full_read_segment(d, &f, &s.m, 0, read_at, &s.pack, out, &err), ERR_CORRUPT, &err,
                 "not one frame");
    /* without its size */
    buf_reset(&s.pack);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0);
    row.length =
        (uint32_t)ZSTD_compress2(zstd, frame, sizeof(frame), s.stream + 2 * SEGMENT_BYTES, TAIL);
    buf_append(&s.pack, frame, row.length);
    assert_error(full_read_segment(d, &f, &s.m, 0, read_at, &s.pack, out, &err), ERR_CORRUPT, &err,
                 "not of 1000 bytes");
    ZSTD_freeCCtx(zstd);
    full_decoder_free(d);
    free(out);
    sample_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_encoder_misuse),
        cmocka_unit_test(test_the_sinks_failure_comes_back),
        cmocka_unit_test(test_malformed_headers),
        cmocka_unit_test(test_an_aligned_stream),
        cmocka_unit_test(test_flipped_payload_bits),
        cmocka_unit_test(test_foreign_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
