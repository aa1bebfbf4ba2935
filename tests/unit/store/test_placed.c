/* What of a pack lies in the tree: written, read, hashed, fetched and given there. */
#include "unit/store/exchanging.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include "delta/full.h"
#include "lib/small_disk.h"
#include "lib/trees.h"
#include "store/exchange_internal.h"
#include "store/placed.h"

/* An artifact of a directory, an empty file, and two with bytes: three segments. */
enum { FILE_A = 5000001, FILE_B = 2 * SEGMENT_BYTES + 77 - FILE_A };

struct sample {
    struct manifest m;
    struct entry entries[4];
    struct hash segments[3];
    const char *dir;
    unsigned char *stream;
    size_t from;
};

static void sample_files(const struct sample *s)
{
    tmpdir_write(below(s->dir, "d/a", ""), "", 0);
    tmpdir_write(below(s->dir, "e", ""), "", 0);
    tmpdir_write(below(s->dir, "f", ""), "", 0);
}

static void sample_init(struct sample *s)
{
    static char d[] = "d", a[] = "d/a", empty[] = "e", b[] = "f";
    struct random r = { 7 };

    memset(s, 0, sizeof(*s));
    s->entries[0] = (struct entry){ .kind = ENTRY_DIR, .mode = 0755, .path = d };
    s->entries[1] = (struct entry){ .kind = ENTRY_FILE, .mode = 0644, .path = a, .size = FILE_A };
    s->entries[2] =
        (struct entry){ .kind = ENTRY_FILE, .mode = 0644, .path = empty, .offset = FILE_A };
    s->entries[3] = (struct entry){
        .kind = ENTRY_FILE, .mode = 0644, .path = b, .size = FILE_B, .offset = FILE_A
    };
    s->m = (struct manifest){ s->entries, 4, FILE_A + FILE_B, s->segments, 3 };
    s->stream = mem_alloc((size_t)s->m.stream_bytes);
    for (size_t i = 0; i < s->m.stream_bytes; i++)
        s->stream[i] = (unsigned char)random_next(&r);
    for (size_t i = 0; i < 3; i++)
        s->segments[i] =
            merkle_segment(s->stream + i * SEGMENT_BYTES, manifest_segment_bytes(&s->m, i));
    s->from = full_header_bytes(3);
    s->dir = tmpdir_fresh();
    sample_files(s);
}

static struct placed *sample_open(const struct sample *s)
{
    struct placed_where where = { .path = s->dir };
    struct err err = ERR_INIT;
    struct placed *p = NULL;

    assert_ok(placed_open(&p, &s->m, &where, &err), &err);
    assert_int_equal(placed_from(p), s->from);
    return p;
}

/* From the end to the begin, in pieces that fit nothing. */
static void write_all(const struct sample *s, const struct placed *p)
{
    enum { PIECE = 300007 };
    size_t end = (size_t)s->m.stream_bytes;
    struct err err = ERR_INIT;

    while (end > 0) {
        size_t len = end < PIECE ? end : PIECE;

        end -= len;
        assert_ok(placed_write(p, s->stream + end, len, s->from + end, &err), &err);
    }
}

static void suits_what_is_its_stream(void **state)
{
    struct entry *many = mem_calloc(PLACED_FILES_MAX + 1, sizeof(*many));
    struct manifest m = { many, PLACED_FILES_MAX, PLACED_FILES_MAX, NULL, 1 };
    struct sample s;

    (void)state;
    sample_init(&s);
    assert_true(placed_suits(&s.m, s.from + s.m.stream_bytes));
    assert_false(placed_suits(&s.m, s.from + s.m.stream_bytes - 1)); /* something is compressed */
    assert_false(placed_suits(&s.m, s.from + s.m.stream_bytes + 1));
    for (size_t i = 0; i <= PLACED_FILES_MAX; i++)
        many[i] = (struct entry){ .kind = ENTRY_FILE, .size = 1, .offset = i };
    assert_true(placed_suits(&m, full_header_bytes(1) + m.stream_bytes));
    m.nentries = (size_t)(m.stream_bytes = PLACED_FILES_MAX + 1);
    assert_false(placed_suits(&m, full_header_bytes(1) + m.stream_bytes));
    m = (struct manifest){ .entries = many };
    assert_false(placed_suits(&m, full_header_bytes(0)));
    free(many);
    free(s.stream);
}

static void holds_what_is_written(void **state)
{
    struct err err = ERR_INIT;
    unsigned char *got = mem_alloc(600000);
    struct placed *p;
    struct sample s;
    size_t len;
    char *a;

    (void)state;
    sample_init(&s);
    p = sample_open(&s);
    write_all(&s, p);
    for (size_t i = 0; i < 3; i++) {
        assert_ok(placed_verified(p, i, &err), &err);
    }
    s.segments[1].b[0] ^= 1;
    assert_error(placed_verified(p, 1, &err), ERR_CORRUPT, &err, "segment 1");
    assert_ok(placed_read(p, got, 600000, s.from + FILE_A - 300000, &err), &err);
    assert_memory_equal(got, s.stream + FILE_A - 300000, 600000);
    assert_error(placed_read(p, got, 78, s.from + 2 * SEGMENT_BYTES, &err), ERR_CORRUPT, &err,
                 "the pack ends");
    a = tmpdir_read(below(s.dir, "d/a", ""), &len);
    assert_int_equal(len, FILE_A);
    assert_memory_equal(a, s.stream, len);
    placed_seal(p);
    assert_error(placed_write(p, "x", 1, s.from, &err), ERR_DENIED, &err, "complete");
    placed_free(p);
    free(a);
    free(got);
    free(s.stream);
}

static void takes_its_space(void **state)
{
    struct err err = ERR_INIT;
    struct placed *p;
    struct sample s;
    struct stat st;

    (void)state;
    sample_init(&s);
    p = sample_open(&s);
    assert_ok(placed_reserve(p, &err), &err);
    assert_int_equal(stat(below(s.dir, "f", ""), &st), 0);
    assert_int_equal(st.st_size, FILE_B);
    assert_true(st.st_blocks * 512 >= FILE_B);
    placed_free(p);
    free(s.stream);
}

static void must_be_there(void **state)
{
    struct placed_where where = { .is_file = true };
    struct err err = ERR_INIT;
    struct placed *p = NULL;
    struct sample s;

    (void)state;
    sample_init(&s);
    where.path = below(s.dir, "gone", "");
    assert_error(placed_open(&p, &s.m, &where, &err), ERR_NOT_FOUND, &err, "gone");
    where = (struct placed_where){ .path = s.dir };
    tmpdir_remove(below(s.dir, "d", ""));
    assert_error(placed_open(&p, &s.m, &where, &err), ERR_NOT_FOUND, &err, "d/a");
    placed_free(NULL);
    free(s.stream);
}

/* ---- in a swarm ---- */

/* The pack of the swarm as one of a file: what is in front of it is never read by an exchange. */
struct single {
    struct manifest m;
    struct entry entry;
    const char *path;
    struct placed *placed;
    size_t from;
};

static void single_open(struct single *f, bool again)
{
    static char name[] = "x";
    struct placed_where where = { .is_file = true };
    struct err err = ERR_INIT;

    if (!again)
        f->path = below(tmpdir_fresh(), "x", "");
    f->from = full_header_bytes(3);
    f->entry = (struct entry){ .kind = ENTRY_FILE, .path = name, .size = PACK_BYTES - f->from };
    f->m = (struct manifest){ &f->entry, 1, PACK_BYTES - f->from, NULL, 3 };
    if (!again)
        tmpdir_write(f->path, "", 0);
    where.path = f->path;
    assert_true(placed_suits(&f->m, PACK_BYTES));
    assert_ok(placed_open(&f->placed, &f->m, &where, &err), &err);
}

static void assert_whole(const struct single *f, const struct swarm *s)
{
    size_t len;
    char *got = tmpdir_read(f->path, &len);

    assert_int_equal(len, PACK_BYTES - f->from);
    assert_memory_equal(got, s->pack + f->from, len);
    free(got);
}

static void spoil(const struct single *f, off_t at)
{
    int fd = open(f->path, O_RDWR | O_CLOEXEC);
    char byte = 0;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Node 1 fetches all of it from node 0, to its place. */
static void fetch_placed(struct swarm *s, const struct single *f)
{
    s->nodes[1].fetch.placed = f->placed;
    connect_nodes(s, 1, 0);
    start_fetch(s, 1);
    loop_run(s->loop);
}

/* Every byte but the table's goes to the file alone; another machine is given it from there. */
static void is_fetched_and_given(void **state)
{
    char hex[HASH_HEX];
    struct single f;
    struct swarm s;
    struct stat st;

    (void)state;
    start_swarm(&s, 2);
    single_open(&f, false);
    fetch_placed(&s, &f);
    assert_int_equal(s.nodes[1].status, 0);
    assert_whole(&f, &s);
    assert_int_equal(stat(below(s.nodes[1].dir, hash_hex(&s.id, hex), ".pack"), &st), 0);
    assert_int_equal(st.st_size, PACK_BYTES);
    assert_true(st.st_blocks * 512 < LEAF_BYTES);

    assert_int_equal(exchange_bitmap(s.nodes[1].x, &s.id)->set, PACK_BYTES / LEAF_BYTES + 1);
    exchange_offer(s.nodes[1].x, s.index.data, s.index.len);
    connect_nodes(&s, 2, 1);
    start_fetch(&s, 2);
    loop_run(s.loop);
    assert_has_pack(&s, 2);
    stop_swarm(&s);
    placed_free(f.placed);
}

/* After a restart leaves are looked for where they lie, and one that has rotted there comes again. */
static void rot_is_fetched_again(void **state)
{
    struct single f;
    struct swarm s;
    const char *dir;

    (void)state;
    start_swarm(&s, 1);
    single_open(&f, false);
    fetch_placed(&s, &f);
    dir = s.nodes[1].dir;
    stop_swarm(&s);
    placed_free(f.placed);
    spoil(&f, 5 * LEAF_BYTES + 17);

    start_swarm(&s, 0);
    s.nodes[1].dir = dir;
    s.count = 2;
    start_node(&s, &s.nodes[1], ROLE_AGENT, "m1");
    single_open(&f, true);
    fetch_placed(&s, &f);
    assert_int_equal(s.nodes[1].status, 0);
    assert_whole(&f, &s);
    assert_int_equal(exchange_counts(s.nodes[0].x).sent_bytes, LEAF_BYTES);
    stop_swarm(&s);
    placed_free(f.placed);
}

static void when_one_leaf_is_missing(struct timer *t)
{
    struct swarm *s = CONTAINER_OF(t, struct swarm, kick);

    if (s->nodes[2].fetch.have_bytes != PACK_BYTES - LEAF_BYTES ||
        exchange_has(s->nodes[1].x, &s->id, 7, 1)) /* another one comes last */
        return;
    timer_stop(t);
    loop_stop(s->loop);
}

/* The file is in use: what its owner writes into it is neither given to others nor written over. */
static void what_its_owner_changes_is_left_alone(void **state)
{
    struct single f;
    struct swarm s;

    (void)state;
    start_swarm(&s, 2);
    single_open(&f, false);
    fetch_placed(&s, &f);
    placed_seal(f.placed);
    recent_drop(s.nodes[1].x, NULL, INT64_MAX); /* so that the file is read */
    spoil(&f, 7 * LEAF_BYTES);

    exchange_offer(s.nodes[1].x, s.index.data, s.index.len);
    connect_nodes(&s, 2, 1);
    start_fetch(&s, 2);
    timer_start(s.loop, &s.kick, 1, 1, when_one_leaf_is_missing);
    loop_run(s.loop);
    assert_false(exchange_has(s.nodes[1].x, &s.id, 7, 1));
    connect_nodes(&s, 2, 0);
    loop_run(s.loop);
    assert_has_pack(&s, 2);
    assert_false(exchange_has(s.nodes[1].x, &s.id, 7, 1));
    spoil(&f, 7 * LEAF_BYTES); /* back to what it was: nothing else has been changed */
    assert_whole(&f, &s);
    stop_swarm(&s);
    placed_free(f.placed);
}

/* Each of the two files would fit, and both do not: known before anything is fetched. */
static void what_does_not_fit_is_refused_at_once(void **state)
{
    struct err err = ERR_INIT;
    struct placed *p;
    struct sample s;

    (void)state;
    sample_init(&s);
    s.dir = tmpdir_fresh();
    if (!small_disk(s.dir, 7 << 20)) {
        free(s.stream);
        skip();
    }
    sample_files(&s);
    p = sample_open(&s);
    assert_error(placed_reserve(p, &err), ERR_NO_SPACE, &err, "reserve 8388685 bytes");
    assert_true(small_disk(s.dir, 9 << 20));
    assert_ok(placed_reserve(p, &err), &err);
    write_all(&s, p);
    assert_ok(placed_reserve(p, &err), &err); /* it is here: no more is needed */
    placed_free(p);
    assert_int_equal(umount(s.dir), 0);
    free(s.stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suits_what_is_its_stream),
        cmocka_unit_test(holds_what_is_written),
        cmocka_unit_test(takes_its_space),
        cmocka_unit_test(must_be_there),
        cmocka_unit_test(is_fetched_and_given),
        cmocka_unit_test(rot_is_fetched_again),
        cmocka_unit_test(what_its_owner_changes_is_left_alone),
        cmocka_unit_test(what_does_not_fit_is_refused_at_once),
    };

    log_setup("test", 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
