/* The happy path of a pack: INDEX -> RESUME (hash what is there) -> FETCH (read what is missing)
 * -> VERIFY (decode each segment, unless its leaves tell) -> PUT; before the first one MANIFEST. A
 * failed step leaves the state where it was, so that the next call tries it again. */
#include "store/replicate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/mem.h"
#include "delta/full.h"
#include "io/files.h"

enum step { STEP_NONE = 0, STEP_INDEX, STEP_RESUME, STEP_FETCH, STEP_VERIFY, STEP_PUT };

struct replicate_job {
    struct store *origin, *own;
    char *dir;
    struct manifest *manifest;
    enum step step;
    size_t at; /* the pack in hand */
    struct pack_index *index;
    struct buf index_bytes;
    char *path; /* of the partial file */
    int fd;
    struct bitmap have;
    size_t next; /* leaf (RESUME, FETCH) or segment (VERIFY) */
    struct store_object *source;
    struct full *full;
    struct full_decoder *decoder;
    unsigned char *buffer;
};

int replication_new(struct replication **ret, struct store *origin, struct store *own,
                    const char *dir, const struct hash *artifact, struct err *err)
{
    struct replication *r;
    int status = dir_make(dir, 0700, err);

    if (status < 0)
        return status;
    r = mem_alloc(sizeof(*r));
    r->artifact = *artifact;
    r->packs = mem_calloc(PACKS_MAX, sizeof(*r->packs));
    r->job = mem_alloc(sizeof(*r->job));
    r->job->origin = origin;
    r->job->own = own;
    r->job->dir = mem_strdup(dir);
    r->job->fd = -1;
    *ret = r;
    return 0;
}

/* Lets go of the pack in hand. */
static void end_pack(struct replicate_job *j)
{
    store_object_close(j->source);
    j->source = NULL;
    full_free(j->full);
    j->full = NULL;
    full_decoder_free(j->decoder);
    j->decoder = NULL;
    pack_index_free(j->index);
    j->index = NULL;
    buf_release(&j->index_bytes);
    bitmap_release(&j->have);
    free(j->buffer);
    j->buffer = NULL;
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
    free(j->path);
    j->path = NULL;
    j->step = STEP_NONE;
}

void replication_free(struct replication *r)
{
    if (r == NULL)
        return;
    end_pack(r->job);
    manifest_free(r->job->manifest);
    free(r->job->dir);
    free(r->job);
    free(r->packs);
    free(r);
}

int replication_want(struct replication *r, const struct hash *pack, struct err *err)
{
    for (size_t i = 0; i < r->npacks; i++) {
        if (hash_equal(&r->packs[i].hash, pack)) {
            r->packs[i].lost = false;
            return 0;
        }
    }
    if (r->npacks == PACKS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d packs of one artifact", PACKS_MAX);
    r->packs[r->npacks++].hash = *pack;
    return 0;
}

static int get_manifest(struct replication *r, struct err *err)
{
    struct replicate_job *j = r->job;
    AUTO_BUF bytes = BUF_INIT;
    bool here = false;
    int status = store_has(j->own, OBJECT_MANIFEST, &r->artifact, &here, err);

    if (status < 0)
        return status;
    status = store_get(here ? j->own : j->origin, OBJECT_MANIFEST, &r->artifact, &bytes, err);
    if (status < 0)
        return status;
    status = manifest_parse(&j->manifest, bytes.data, bytes.len, err);
    if (status == 0 && !here)
        status = store_put(j->own, OBJECT_MANIFEST, bytes.data, bytes.len, NULL, err);
    if (status < 0) {
        manifest_free(j->manifest);
        j->manifest = NULL;
        return status;
    }
    r->origin_bytes += bytes.len;
    return 0;
}

static void pack_is_complete(struct replication *r)
{
    struct replicated_pack *p = &r->packs[r->job->at];

    p->complete = true;
    end_pack(r->job);
}

/* Forgets what was counted of the pack in hand. */
static void discount(struct replication *r)
{
    struct replicated_pack *p = &r->packs[r->job->at];

    for (size_t i = 0; r->job->index != NULL && i < r->job->index->nleaves; i++) {
        if (bitmap_get(&r->job->have, i))
            r->bytes -= pack_leaf_bytes(r->job->index, i);
    }
    r->total -= p->bytes;
    p->bytes = 0;
}

static void pack_is_lost(struct replication *r)
{
    struct replicated_pack *p = &r->packs[r->job->at];
    char hex[HASH_HEX];
    AUTO_FREE char *partial = mem_printf("%s/%s.part", r->job->dir, hash_hex(&p->hash, hex));

    discount(r);
    p->lost = true;
    unlink(partial);
    end_pack(r->job);
}

/* Reads the index from where it is. A pack that is in `own` without its index (we were killed just
 * between the two) was verified before it got there: only the index is missing. */
static int read_index(struct replication *r, bool *ret_here, struct err *err)
{
    struct replicate_job *j = r->job;
    struct replicated_pack *p = &r->packs[j->at];
    bool index = false;
    int status = store_has(j->own, OBJECT_INDEX, &p->hash, &index, err);

    if (status == 0)
        status = store_has(j->own, OBJECT_PACK, &p->hash, ret_here, err);
    if (status < 0)
        return status;
    buf_reset(&j->index_bytes);
    index = index && *ret_here;
    status = store_get(index ? j->own : j->origin, OBJECT_INDEX, &p->hash, &j->index_bytes, err);
    if (status == 0)
        status = pack_index_parse(&j->index, j->index_bytes.data, j->index_bytes.len, err);
    if (status == 0 && !hash_equal(&j->index->target, &r->artifact))
        status = err_set(err, ERR_INVALID, "is a pack of another artifact");
    if (status == 0 && j->index->kind == PACK_FULL &&
        full_is_aligned_stream(j->manifest, j->index->bytes))
        status = full_check_index(j->manifest, j->index, err);
    if (status == 0 && *ret_here && !index)
        status =
            store_put(j->own, OBJECT_INDEX, j->index_bytes.data, j->index_bytes.len, NULL, err);
    if (status < 0) {
        pack_index_free(j->index);
        j->index = NULL;
    }
    return status;
}

static int get_index(struct replication *r, struct err *err)
{
    struct replicate_job *j = r->job;
    bool here = false;
    int status = read_index(r, &here, err);

    if (status < 0)
        return status;
    r->packs[j->at].bytes = j->index->bytes;
    r->total += j->index->bytes;
    r->origin_bytes += j->index_bytes.len;
    if (here) {
        r->bytes += j->index->bytes;
        r->origin_bytes += j->index->bytes;
        pack_is_complete(r);
        return 0;
    }
    bitmap_init(&j->have, j->index->nleaves);
    j->next = 0;
    j->step = STEP_RESUME;
    return 0;
}

static int open_partial(struct replication *r, struct err *err)
{
    struct replicate_job *j = r->job;
    char hex[HASH_HEX];

    free(j->path);
    j->path = mem_printf("%s/%s.part", j->dir, hash_hex(&r->packs[j->at].hash, hex));
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->fd < 0)
        return err_sys(err, errno, "open %s", j->path);
    j->buffer = mem_realloc(j->buffer, REPLICATE_STEP_BYTES);
    return 0;
}

static bool is_leaf(const struct pack_index *index, size_t i, const void *data)
{
    struct hash h = merkle_leaf(data, pack_leaf_bytes(index, i));

    return hash_equal(&h, &index->leaves[i]);
}

static void leaf_is_here(struct replication *r, size_t i)
{
    if (!bitmap_put(&r->job->have, i, true))
        return;
    r->bytes += pack_leaf_bytes(r->job->index, i);
    r->origin_bytes += pack_leaf_bytes(r->job->index, i);
}

/* Hashes some leaves of the partial file; what an interrupted run has verified is verified again. */
static int resume(struct replication *r, struct err *err)
{
    struct replicate_job *j = r->job;
    struct stat st;

    if (j->fd < 0 && open_partial(r, err) < 0)
        return -(int)err->code;
    if (fstat(j->fd, &st) < 0)
        return err_sys(err, errno, "stat %s", j->path);
    for (size_t n = 0; n < REPLICATE_STEP_LEAVES && j->next < j->index->nleaves; n++, j->next++) {
        size_t len = pack_leaf_bytes(j->index, j->next);
        uint64_t offset = (uint64_t)j->next * LEAF_BYTES;

        if (offset + len > (uint64_t)st.st_size) {
            j->next = j->index->nleaves;
            break;
        }
        if (fd_read_at(j->fd, j->buffer, len, offset, err) < 0)
            return err_wrap(err, "read %s", j->path);
        if (is_leaf(j->index, j->next, j->buffer))
            leaf_is_here(r, j->next);
    }
    if (j->next < j->index->nleaves)
        return 0;
    j->next = 0;
    j->step = STEP_FETCH;
    return 0;
}

/* A wrong leaf is read once more: a fault on the way is rare, but it happens. */
static int take_leaf(struct replication *r, size_t i, unsigned char *data, struct err *err)
{
    struct replicate_job *j = r->job;
    size_t len = pack_leaf_bytes(j->index, i);
    uint64_t offset = (uint64_t)i * LEAF_BYTES;

    if (!is_leaf(j->index, i, data)) {
        if (store_object_read(j->source, data, len, offset, err) < 0)
            return -(int)err->code;
        if (!is_leaf(j->index, i, data))
            return err_set(err, ERR_CORRUPT, "leaf %zu of the origin's is not what the index says",
                           i);
    }
    if (fd_write_at(j->fd, data, len, offset, err) < 0)
        return err_wrap(err, "write %s", j->path);
    leaf_is_here(r, i);
    return 0;
}

static int open_source(struct replication *r, struct err *err)
{
    struct replicate_job *j = r->job;

    if (store_open_object(j->origin, OBJECT_PACK, &r->packs[j->at].hash, &j->source, err) < 0)
        return -(int)err->code;
    if (store_object_bytes(j->source) == j->index->bytes)
        return 0;
    err_set(err, ERR_CORRUPT, "the origin's has %llu bytes, its index says %llu",
            (unsigned long long)store_object_bytes(j->source), (unsigned long long)j->index->bytes);
    store_object_close(j->source);
    j->source = NULL;
    return -(int)ERR_CORRUPT;
}

/* One read of the leaves that are missing next to each other. */
static int fetch(struct replication *r, struct err *err)
{
    struct replicate_job *j = r->job;
    size_t first, count = 0, bytes = 0;

    while (j->next < j->index->nleaves && bitmap_get(&j->have, j->next))
        j->next++;
    if (j->next == j->index->nleaves) {
        j->next = 0;
        j->step = STEP_VERIFY;
        return 0;
    }
    if (j->source == NULL && open_source(r, err) < 0)
        return -(int)err->code;
    for (first = j->next; count < REPLICATE_STEP_LEAVES && first + count < j->index->nleaves &&
                          !bitmap_get(&j->have, first + count);
         count++)
        bytes += pack_leaf_bytes(j->index, first + count);
    if (store_object_read(j->source, j->buffer, bytes, (uint64_t)first * LEAF_BYTES, err) < 0)
        return -(int)err->code;
    for (size_t i = 0; i < count; i++) {
        if (take_leaf(r, first + i, j->buffer + i * LEAF_BYTES, err) < 0)
            return -(int)err->code;
    }
    return 0;
}

static int read_partial(void *fd, void *data, size_t len, uint64_t offset, struct err *err)
{
    return fd_read_at(*(const int *)fd, data, len, offset, err);
}

/* Its leaves are the index's, its segments are not the manifest's: the origin's pack is wrong as a
 * whole, so that what is here of it is of no use. */
static void throw_away(struct replication *r)
{
    struct replicate_job *j = r->job;

    unlink(j->path);
    r->bytes -= j->index->bytes;
    r->total -= j->index->bytes;
    r->packs[j->at].bytes = 0;
    end_pack(j);
}

static int verify(struct replication *r, struct err *err)
{
    struct replicate_job *j = r->job;
    int status = 0;

    if (j->index->kind == PACK_DELTA) {
        j->step = STEP_PUT;
        return 0;
    }
    if (j->full == NULL) {
        status = full_read(&j->full, read_partial, &j->fd, j->index->bytes, j->manifest,
                           &r->artifact, err);
        j->decoder = full_decoder_new();
        if (status == 0 && full_is_aligned_stream(j->manifest, j->index->bytes))
            j->next = j->manifest->nsegments; /* they are right: their leaves are */
    }
    if (status == 0 && j->next < j->manifest->nsegments) {
        status = full_read_segment(j->decoder, j->full, j->manifest, j->next, read_partial, &j->fd,
                                   j->buffer, err);
        j->next += status == 0;
    }
    if (status == -(int)ERR_CORRUPT || status == -(int)ERR_INVALID)
        throw_away(r);
    else if (status == 0 && j->next == j->manifest->nsegments)
        j->step = STEP_PUT;
    return status;
}

static int put(struct replication *r, struct err *err)
{
    struct replicate_job *j = r->job;
    struct replicated_pack *p = &r->packs[j->at];
    int status = store_put_file(j->own, OBJECT_PACK, &p->hash, j->path, err);

    if (status == 0)
        status =
            store_put(j->own, OBJECT_INDEX, j->index_bytes.data, j->index_bytes.len, NULL, err);
    if (status < 0)
        return status;
    unlink(j->path); /* `own` had the pack already, without an index */
    pack_is_complete(r);
    return 0;
}

/* The index goes first: it says that the rest is there. */
static int delete_pack(struct replication *r, const struct hash *pack, struct err *err)
{
    struct replicate_job *j = r->job;
    char hex[HASH_HEX];
    AUTO_FREE char *partial = mem_printf("%s/%s.part", j->dir, hash_hex(pack, hex));
    int status = store_delete(j->own, OBJECT_INDEX, pack, err);

    if (status == 0)
        status = store_delete(j->own, OBJECT_PACK, pack, err);
    if (status == 0 && unlink(partial) < 0 && errno != ENOENT)
        status = err_sys(err, errno, "unlink %s", partial);
    return status;
}

int replication_delete(struct replication *r, struct err *err)
{
    int status = 0;

    end_pack(r->job);
    for (size_t i = 0; i < r->npacks && status == 0; i++)
        status = delete_pack(r, &r->packs[i].hash, err);
    if (status == 0)
        status = store_delete(r->job->own, OBJECT_MANIFEST, &r->artifact, err);
    return status < 0 ? err_wrap(err, "delete") : 0;
}

static int step_pack(struct replication *r, struct err *err)
{
    switch (r->job->step) {
    case STEP_NONE:
    case STEP_INDEX:
        return get_index(r, err);
    case STEP_RESUME:
        return resume(r, err);
    case STEP_FETCH:
        return fetch(r, err);
    case STEP_VERIFY:
        return verify(r, err);
    case STEP_PUT:
        return put(r, err);
    }
    return err_set(err, ERR_INTERNAL, "no such step");
}

/* The first one that is still to come; npacks: none is. */
static size_t next_pack(const struct replication *r)
{
    size_t i = 0;

    while (i < r->npacks && (r->packs[i].complete || r->packs[i].lost))
        i++;
    return i;
}

int replication_step(struct replication *r, struct err *err)
{
    struct err own_err = ERR_INIT;
    struct replicate_job *j = r->job;
    char hex[HASH_HEX];
    int status;

    if (err == NULL)
        err = &own_err;
    if (j->manifest == NULL) {
        if (get_manifest(r, err) < 0)
            return err_wrap(err, "artifact %.12s: manifest", hash_hex(&r->artifact, hex));
        return 1;
    }
    if (j->step == STEP_NONE)
        j->at = next_pack(r);
    if (j->at == r->npacks)
        return 0;
    hash_hex(&r->packs[j->at].hash, hex);
    status = step_pack(r, err);
    if (status == -(int)ERR_NOT_FOUND && j->at > 0) {
        pack_is_lost(r);
    } else if (status < 0) {
        store_object_close(j->source);
        j->source = NULL;
        return err_wrap(err, "pack %.12s", hex);
    }
    return next_pack(r) < r->npacks;
}
