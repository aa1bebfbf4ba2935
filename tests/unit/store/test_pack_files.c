#include "store/pack_files.h"

#include <pthread.h>
#include <stdio.h>

#include "unit/store/stocked.h"

enum { BYTES = 2 * SEGMENT_BYTES + 12345, SMALL = 1000 };

/* Two files: `big` over three segments, and `small` behind it, in the third. */
struct kit {
    struct stock k;
    struct published p;
    struct manifest *m;
    unsigned char *big, small[SMALL];
    size_t big_entry, small_entry;
};

static void kit_init(struct kit *x)
{
    const char *dir = tmpdir_fresh();
    AUTO_FREE char *big = mem_printf("%s/big", dir), *small = mem_printf("%s/small", dir);
    struct random r = { 5 };

    stock_init(&x->k);
    x->big = mem_alloc(BYTES + 8);
    for (size_t i = 0; i < BYTES; i += 8) {
        uint64_t v = random_next(&r);

        memcpy(x->big + i, &v, 8);
    }
    memset(x->small, 's', SMALL);
    tmpdir_write(big, x->big, BYTES);
    tmpdir_write(small, x->small, SMALL);
    x->p = stock_publish(&x->k, dir, 3);
    assert_ok(store_get_manifest(x->k.s, &x->p.artifact, &x->m, &x->k.err), &x->k.err);
    for (size_t i = 0; i < x->m->nentries; i++) {
        if (strcmp(x->m->entries[i].path, "big") == 0)
            x->big_entry = i;
        if (strcmp(x->m->entries[i].path, "small") == 0)
            x->small_entry = i;
    }
}

static void kit_release(struct kit *x)
{
    manifest_free(x->m);
    free(x->big);
    stock_release(&x->k);
}

static struct pack_files *open_files(struct kit *x, size_t kept)
{
    struct pack_files *f = NULL;

    assert_ok(pack_files_open(&f, x->k.s, x->m, &x->p.artifact, &x->p.pack, kept, &x->k.err),
              &x->k.err);
    return f;
}

static void check_read(struct kit *x, struct pack_files *f, uint64_t offset, size_t len)
{
    AUTO_FREE unsigned char *got = mem_alloc(len + 1);

    assert_ok(pack_files_read(f, x->big_entry, got, len, offset, &x->k.err), &x->k.err);
    assert_memory_equal(got, x->big + offset, len);
}

static void any_stretch_of_any_file(void **state)
{
    struct kit x;

    (void)state;
    kit_init(&x);
    for (size_t kept = 1; kept <= 3; kept++) {
        struct pack_files *f = open_files(&x, kept);
        struct random r = { 9 };
        unsigned char got[SMALL];

        check_read(&x, f, 0, BYTES); /* over all three, though only some are kept */
        check_read(&x, f, SEGMENT_BYTES - 1, 2);
        check_read(&x, f, BYTES - 1, 1);
        check_read(&x, f, BYTES, 0);
        for (int i = 0; i < 50; i++) {
            uint64_t at = random_below(&r, BYTES);

            check_read(&x, f, at,
                       (size_t)random_below(&r, BYTES - at < 99999 ? BYTES - at : 99999));
        }
        assert_ok(pack_files_read(f, x.small_entry, got, SMALL, 0, &x.k.err), &x.k.err);
        assert_memory_equal(got, x.small, SMALL);
        pack_files_close(f);
    }
    pack_files_close(NULL);
    kit_release(&x);
}

struct reader {
    struct kit *x;
    struct pack_files *f;
    uint64_t seed;
    pthread_t thread;
    size_t wrong;
};

static void *read_a_lot(void *arg)
{
    struct reader *self = arg;
    struct random r = { self->seed };
    unsigned char got[4096];

    for (int i = 0; i < 40; i++) {
        uint64_t at = random_below(&r, BYTES - sizeof(got));

        if (pack_files_read(self->f, self->x->big_entry, got, sizeof(got), at, NULL) < 0 ||
            memcmp(got, self->x->big + at, sizeof(got)) != 0)
            self->wrong++;
    }
    return NULL;
}

static void from_several_threads(void **state)
{
    struct reader readers[4];
    struct kit x;
    struct pack_files *f;

    (void)state;
    kit_init(&x);
    f = open_files(&x, 2); /* they push each other's segments out */
    for (size_t i = 0; i < COUNT_OF(readers); i++) {
        readers[i] = (struct reader){ .x = &x, .f = f, .seed = i + 1 };
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_a_lot, &readers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(readers); i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].wrong, 0);
    }
    pack_files_close(f);
    kit_release(&x);
}

static void errors(void **state)
{
    struct pack_files *f = NULL;
    unsigned char got[16];
    struct kit x;
    struct hash other = { { 9 } };

    (void)state;
    kit_init(&x);
    f = open_files(&x, 2);
    assert_error(pack_files_read(f, x.big_entry, got, 16, BYTES - 15, &x.k.err), ERR_CORRUPT,
                 &x.k.err, "big: shorter");
    assert_error(pack_files_read(f, x.big_entry, got, 1, UINT64_MAX, &x.k.err), ERR_CORRUPT,
                 &x.k.err, "big: shorter");
    check_read(&x, f, 0, 10); /* it still reads what there is */
    pack_files_close(f);
    f = NULL;
    assert_error(pack_files_open(&f, x.k.s, x.m, &other, &x.p.pack, 2, &x.k.err), ERR_INVALID,
                 &x.k.err, "full pack");
    assert_error(pack_files_open(&f, x.k.s, x.m, &x.p.artifact, &other, 2, &x.k.err), ERR_NOT_FOUND,
                 &x.k.err, "full pack");
    /* The middle of the pack is in the second segment: it is found out, the others are read. */
    stock_spoil(&x.k, OBJECT_PACK, &x.p.pack);
    f = open_files(&x, 2);
    assert_error(pack_files_read(f, x.big_entry, got, 16, SEGMENT_BYTES + 5, &x.k.err), ERR_CORRUPT,
                 &x.k.err, "segment 1");
    check_read(&x, f, 0, 100);
    assert_error(pack_files_read(f, x.big_entry, got, 16, SEGMENT_BYTES + 5, &x.k.err), ERR_CORRUPT,
                 &x.k.err, "segment 1"); /* nothing wrong was kept */
    pack_files_close(f);
    kit_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_stretch_of_any_file),
        cmocka_unit_test(from_several_threads),
        cmocka_unit_test(errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
