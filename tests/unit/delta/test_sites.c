#include <stdlib.h>

#include "base/mem.h"
#include "delta/arm64.h"
#include "delta/x86.h"
#include "lib/artifacts.h"
#include "lib/check.h"

/* Lengths as objdump tells them. */
static void test_x86_lengths(void **state)
{
    static const struct {
        const char *code;
        unsigned bytes, length, field;
    } cases[] = {
        { "\x90", 1, 1, 0 },
        { "\x48\x89\xe5", 3, 3, 0 },                                   /* mov rbp, rsp */
        { "\xe8\x01\x02\x03\x04", 5, 5, 1 },                           /* call */
        { "\x0f\x84\x01\x02\x03\x04", 6, 6, 2 },                       /* je */
        { "\x48\x8d\x05\x01\x02\x03\x04", 7, 7, 3 },                   /* lea rax, [rip + …] */
        { "\x48\xc7\x05\x01\x02\x03\x04\x05\x00\x00\x00", 11, 11, 3 }, /* mov [rip + …], 5 */
        { "\x80\x3d\x01\x02\x03\x04\x07", 7, 7, 2 },                   /* cmp byte [rip + …], 7 */
        { "\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", 10, 10, 0 },     /* movabs */
        { "\x66\xb8\x01\x02", 4, 4, 0 },                               /* mov ax, … */
        { "\x8b\x04\x25\x01\x02\x03\x04", 7, 7, 0 },                   /* mov eax, [abs] */
        { "\x8b\x44\x24\x08", 4, 4, 0 },                               /* mov eax, [rsp + 8] */
        { "\xf6\x05\x01\x02\x03\x04\x01", 7, 7, 2 },               /* test byte [rip + …], 1 */
        { "\xf7\xd8", 2, 2, 0 },                                   /* neg eax */
        { "\xc5\xf8\x28\x05\x01\x02\x03\x04", 8, 8, 4 },           /* vmovaps xmm0, [rip + …] */
        { "\xc4\xe3\x7d\x39\xc1\x01", 6, 6, 0 },                   /* vextracti128 */
        { "\x62\xf1\x7c\x48\x10\x05\x01\x02\x03\x04", 10, 10, 6 }, /* vmovups zmm0, [rip + …] */
        { "\x66\x0f\x3a\x0f\xc1\x08", 6, 6, 0 },                   /* palignr */
        { "\xf0\x48\x0f\xb1\x0d\x01\x02\x03\x04", 9, 9, 5 }, /* lock cmpxchg [rip + …], rcx */
        { "\x06", 1, 1, 0 },                                 /* not in 64-bit mode */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        unsigned char code[X86_LONGEST + 9] = { 0 };
        struct x86_insn insn;

        memcpy(code, cases[i].code, cases[i].bytes);
        insn = x86_decode(code);
        assert_int_equal(insn.length, cases[i].length);
        assert_int_equal(insn.field, cases[i].field);
    }
}

static void test_arm64(void **state)
{
    static const unsigned char bl[] = { 0xff, 0xff, 0xff, 0x97 };   /* bl .-4 */
    static const unsigned char pair[] = { 0x20, 0x00, 0x00, 0xb0,   /* adrp x0, .+0x5000 */
                                          0x00, 0xa0, 0x48, 0x91 }; /* add x0, x0, #0x228, lsl? */
    static const unsigned char load[] = { 0x01, 0x00, 0x00, 0x90,   /* adrp x1, . */
                                          0x21, 0x08, 0x40, 0xf9 }; /* ldr x1, [x1, #16] */
    uint64_t target;

    (void)state;
    assert_int_equal(arm64_form(bl, 4), ARM64_BRANCH);
    assert_int_equal(arm64_target(ARM64_BRANCH, bl, 0x1000), 0xffc);
    assert_int_equal(arm64_insn(ARM64_BRANCH, bl, 0x2000, 0x1ffc), 0x97ffffff);
    assert_int_equal(arm64_form(load, 8), ARM64_PAIR);
    assert_int_equal(arm64_form(load, 4), ARM64_PAGE);
    assert_int_equal(arm64_target(ARM64_PAIR, load, 0x7123), 0x7010);
    assert_int_equal(arm64_form(load + 4, 4), ARM64_NONE);
    for (size_t i = 0; i < 2; i++) { /* what is read is what was written */
        const unsigned char *code = i == 0 ? load : pair;
        uint64_t written, again;

        for (target = 0x40000; target < 0x4000000; target += 0x12340) {
            written = arm64_insn(ARM64_PAIR, code, 0x123400, target);
            again = arm64_target(ARM64_PAIR, (unsigned char *)&written, 0x123400);
            assert_int_equal(again, target);
        }
    }
}

static int read_buf(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct buf *b = ctx;

    if (offset > b->len || len > b->len - offset)
        return err_set(err, ERR_IO, "ends early");
    memcpy(data, b->data + offset, len);
    return 0;
}

/* Any stretch, scanned alone, shows the sites that lie in it. */
static void test_stretches_agree(void **state)
{
    struct site_list whole = { NULL, 0, 0 }, part = { NULL, 0, 0 };
    struct sites *sites = NULL;
    struct err err = ERR_INIT;
    struct random r = { 5 };
    AUTO_BUF file = BUF_INIT;
    size_t len;

    (void)state;
    elf_program(&file, 9, 500, 8, true);
    len = file.len;
    buf_reserve(&file, SITES_PAD);
    memset(file.data + len, 0, SITES_PAD);
    assert_ok(sites_open(&sites, len, read_buf, &file, &err), &err);
    sites_scan(sites, (unsigned char *)file.data, 0, 0, len, true, &whole);
    assert_true(whole.count > 500 * 6);
    for (int n = 0; n < 200; n++) {
        size_t from = SITES_LEAD + (size_t)random_below(&r, len - SITES_LEAD - 100);
        size_t size = 100 + (size_t)random_below(&r, len - from - 99), k = 0;

        sites_scan(sites, (unsigned char *)file.data + from - SITES_LEAD, from, SITES_LEAD, size,
                   true, &part);
        for (size_t i = 0; i < part.count; i++) {
            while (k < whole.count && whole.items[k].at < from + part.items[i].at)
                k++;
            if (part.items[i].kind == SITE_CODE) {
                assert_true(k < whole.count);
                assert_int_equal(whole.items[k].at, from + part.items[i].at);
                assert_int_equal(whole.items[k].kind, SITE_CODE);
            }
        }
    }
    free(whole.items);
    free(part.items);
    sites_close(sites);
}

/* Blanked, two programs that differ in their addresses alone are the same. */
static void test_blanked_images_are_equal(void **state)
{
    AUTO_BUF a = BUF_INIT;
    AUTO_BUF b = BUF_INIT;
    struct sites *sites = NULL;
    struct err err = ERR_INIT;

    (void)state;
    elf_program(&a, 9, 10, 0, true);
    elf_program(&b, 9, 10, 0, true);
    b.data[0x1000 + 5 * 64 + 1] ^= 0x40; /* in the distance of a call */
    buf_reserve(&a, SITES_PAD);
    buf_reserve(&b, SITES_PAD);
    assert_memory_not_equal(a.data, b.data, a.len);
    assert_ok(sites_open(&sites, a.len, read_buf, &a, &err), &err);
    sites_blank(sites, (unsigned char *)a.data, 0, 0, a.len);
    sites_blank(sites, (unsigned char *)b.data, 0, 0, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    sites_close(sites);
}

static void test_read_errors_come_back(void **state)
{
    AUTO_BUF file = BUF_INIT;
    struct sites *sites = NULL;
    struct err err = ERR_INIT;
    size_t len;

    (void)state;
    elf_program(&file, 9, 10, 0, true);
    len = file.len;
    file.len = 20;
    assert_error(sites_open(&sites, len, read_buf, &file, &err), ERR_IO, &err, "ends early");
}

/* The longest cover over a place decides; between covers the one before goes on. */
static void test_moves(void **state)
{
    static const struct cover covers[] = {
        { 1000, 0, 500 },   /* 1000…1499 to 0 */
        { 1100, 5000, 20 }, /* short, in the middle: loses */
        { 3000, 600, 100 }, /* 3000…3099 to 600 */
    };
    static const struct {
        uint64_t at, to;
    } cases[] = { { 1000, 0 },   { 1110, 110 },  { 1499, 499 },          { 2000, 1000 },
                  { 3050, 650 }, { 9000, 6600 }, { 500, (uint64_t)-500 } };
    struct moves m;

    (void)state;
    moves_init(&m, covers, COUNT_OF(covers));
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(moves_at(&m, cases[i].at), cases[i].to);
    moves_release(&m);
    moves_init(&m, NULL, 0);
    assert_int_equal(moves_at(&m, 7), 7);
    moves_release(&m);
}

/* Covers are ascending, disjoint, inside, and mostly right. */
static void test_match(void **state)
{
    static const struct match_params params[] = { { 32, 16, 4, 8 }, { 16, 4, 32, 8 } };
    struct random r = { 3 };
    size_t len = 200000;
    unsigned char *base = mem_alloc(len), *target = mem_alloc(len);

    (void)state;
    for (size_t i = 0; i < len; i++)
        base[i] = (unsigned char)random_next(&r);
    memcpy(target, base + 100000, 100000); /* halves swapped, every 500th byte changed */
    memcpy(target + 100000, base, 100000);
    for (size_t i = 0; i < len; i += 500)
        target[i] ^= 1;
    for (size_t k = 0; k < COUNT_OF(params); k++) {
        struct match_index *index = match_index_new(base, len, &params[k]);
        struct covers c = { NULL, 0, 0 };
        size_t told = 0;
        uint64_t end = 0;

        match_find(index, target, len, 0, &c);
        for (size_t i = 0; i < c.count; i++) {
            assert_true(c.items[i].t >= end);
            end = c.items[i].t + (uint64_t)c.items[i].length;
            assert_true(end <= len && c.items[i].s + c.items[i].length <= len);
            told += c.items[i].length;
        }
        assert_int_equal(c.count, 2);
        assert_true(told > len - 100);
        covers_release(&c);
        match_index_free(index);
    }
    free(base);
    free(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_x86_lengths),
        cmocka_unit_test(test_arm64),
        cmocka_unit_test(test_stretches_agree),
        cmocka_unit_test(test_blanked_images_are_equal),
        cmocka_unit_test(test_read_errors_come_back),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_match),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
