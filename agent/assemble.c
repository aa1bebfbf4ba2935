#include "assemble.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "delta/decode.h"
#include "delta/full.h"
#include "io/files.h"
#include "releases.h"
#include "store/tree_files.h"
#include "store/unpack.h"

struct assembly {
    char *dir, *staging; /* …/releases/RELEASE.tmp */
    struct hash release, artifact, base;
    struct bytes doc, manifest_bytes;
    struct manifest *manifest;
    struct manifest *base_manifest; /* NULL: there is no base of use */
    struct hash base_artifact;
    struct unpack *unpack;
    uint64_t needed, local;
    bool resumed;
    atomic_bool cancelled;
};

static struct bytes bytes_copy(const struct bytes *b)
{
    return (struct bytes){ b->len == 0 ? NULL : mem_dup(b->data, b->len), b->len };
}

void assembly_new(struct assembly **ret, const struct assembly_spec *spec)
{
    struct assembly *a = mem_alloc(sizeof(*a));

    a->dir = mem_strdup(spec->dir);
    a->staging = releases_staging(spec->dir, &spec->release);
    a->release = spec->release;
    a->artifact = spec->artifact;
    a->base = spec->base;
    a->doc = bytes_copy(&spec->doc);
    a->manifest_bytes = bytes_copy(&spec->manifest);
    *ret = a;
}

void assembly_free(struct assembly *a)
{
    if (a == NULL)
        return;
    unpack_close(a->unpack);
    manifest_free(a->manifest);
    manifest_free(a->base_manifest);
    free(a->manifest_bytes.data);
    free(a->doc.data);
    free(a->staging);
    free(a->dir);
    free(a);
}

bool assembly_kept_manifest(const char *dir, const struct hash *release,
                            const struct hash *artifact, struct buf *out)
{
    AUTO_FREE char *staging = releases_staging(dir, release);
    AUTO_FREE char *path = mem_printf("%s/manifest", staging);
    struct hash digest;

    buf_reset(out);
    if (!path_exists(path) || file_read(out, path, MANIFEST_MAX_BYTES, NULL) < 0)
        return false;
    digest = sha256_of(out->data, out->len);
    return hash_equal(&digest, artifact);
}

static char *reserve_path(const struct assembly *a)
{
    return mem_printf("%s/reserve", a->staging);
}

/* Takes the space now, so that a full disk is known before hours of fetching. */
static int reserve(const struct assembly *a, struct err *err)
{
    AUTO_FREE char *path = reserve_path(a);
    int r = a->needed == 0 ? 0 : file_reserve(path, a->needed, err);

    if (r < 0) {
        (void)unlink(path);
        return err_wrap(err, "reserve %llu bytes", (unsigned long long)a->needed);
    }
    return 0;
}

static void unreserve(const struct assembly *a)
{
    AUTO_FREE char *path = reserve_path(a);

    (void)unlink(path);
}

static int keep_documents(const struct assembly *a, struct err *err)
{
    AUTO_FREE char *releases = mem_printf("%s/releases", a->dir);
    AUTO_FREE char *doc = mem_printf("%s/release.doc", a->staging);
    AUTO_FREE char *manifest = mem_printf("%s/manifest", a->staging);

    if (dir_make(releases, 0755, err) < 0 || dir_make(a->staging, 0755, err) < 0)
        return -(int)err->code;
    if (file_publish(doc, a->doc.data, a->doc.len, 0644, err) < 0)
        return -(int)err->code;
    return file_publish(manifest, a->manifest_bytes.data, a->manifest_bytes.len, 0644, err);
}

/* A base that cannot be read, or is not right, only costs what it would have saved. */
static int open_unpack(struct assembly *a, struct err *err)
{
    AUTO_FREE char *staging = mem_printf("%s/staging", a->staging);
    AUTO_FREE char *dest = mem_printf("%s/tree", a->staging);
    AUTO_FREE char *base = releases_path(a->dir, &a->base);
    AUTO_FREE char *base_tree = mem_printf("%s/tree", base);
    struct unpack_options o = { .staging = staging,
                                .dest = dest,
                                .manifest = a->manifest,
                                .artifact = a->artifact,
                                .verify_base = true };
    struct unpack_base b = { base_tree, NULL };

    manifest_free(a->base_manifest);
    a->base_manifest = NULL;
    if (!hash_is_zero(&a->base) &&
        releases_read_manifest(a->dir, &a->base, &a->base_manifest, &a->base_artifact, NULL) == 0) {
        b.manifest = a->base_manifest;
        o.bases = &b;
        o.nbases = 1;
    }
    return unpack_open(&a->unpack, &o, err);
}

int assembly_prepare(struct assembly *a, struct err *err)
{
    struct hash digest = sha256_of(a->manifest_bytes.data, a->manifest_bytes.len);

    if (!hash_equal(&digest, &a->artifact))
        return err_set(err, ERR_CORRUPT, "the manifest is not the artifact's");
    if (a->manifest == NULL &&
        manifest_parse(&a->manifest, a->manifest_bytes.data, a->manifest_bytes.len, err) < 0)
        return -(int)err->code;
    if (keep_documents(a, err) < 0)
        return -(int)err->code;
    unreserve(a);
    unpack_close(a->unpack);
    a->unpack = NULL;
    if (open_unpack(a, err) < 0)
        return -(int)err->code;
    a->resumed = unpack_is_resumed(a->unpack);
    a->needed = unpack_needed_bytes(a->unpack);
    a->local = unpack_local_bytes(a->unpack);
    return reserve(a, err);
}

uint64_t assembly_needed_bytes(const struct assembly *a)
{
    return a->needed;
}

uint64_t assembly_local_bytes(const struct assembly *a)
{
    return a->local;
}

bool assembly_is_resumed(const struct assembly *a)
{
    return a->resumed;
}

uint64_t assembly_stream_bytes(const struct assembly *a)
{
    return a->manifest == NULL ? 0 : a->manifest->stream_bytes;
}

bool assembly_needs_all(const struct assembly *a)
{
    return unpack_needed_count(a->unpack) == a->manifest->nsegments;
}

size_t assembly_segments(const struct assembly *a)
{
    return a->manifest->nsegments;
}

bool assembly_base(const struct assembly *a, struct hash *ret)
{
    if (a->base_manifest != NULL)
        *ret = a->base_artifact;
    return a->base_manifest != NULL;
}

void assembly_cancel(struct assembly *a)
{
    atomic_store(&a->cancelled, true);
}

struct pack_file {
    int fd;
};

static int read_pack(void *ctx, void *data, size_t len, uint64_t offset, struct err *err)
{
    const struct pack_file *f = ctx;

    return fd_read_at(f->fd, data, len, offset, err);
}

static int unpack_all(struct assembly *a, const struct full *f, struct pack_file *file,
                      struct err *err)
{
    struct full_decoder *decoder = full_decoder_new();
    unsigned char *segment = mem_alloc(SEGMENT_BYTES);
    int r = 0;

    for (size_t i = 0; r == 0 && i < a->manifest->nsegments; i++) {
        if (!unpack_needed(a->unpack, i))
            continue;
        if (atomic_load(&a->cancelled))
            r = err_set(err, ERR_CANCELLED, "another release is wanted");
        if (r == 0)
            r = full_read_segment(decoder, f, a->manifest, i, read_pack, file, segment, err);
        if (r == 0)
            r = unpack_segment(a->unpack, i, segment, manifest_segment_bytes(a->manifest, i), err);
    }
    free(segment);
    full_decoder_free(decoder);
    return r;
}

static int open_pack(struct pack_file *file, uint64_t *ret_bytes, const char *path, struct err *err)
{
    struct stat st;

    if (file_open_read(&file->fd, path, err) < 0)
        return -(int)err->code;
    if (fstat(file->fd, &st) < 0) {
        close(file->fd);
        return err_sys(err, errno, "stat %s", path);
    }
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

/* A malformed pack is one that does not give what the manifest promises. */
static int blame(int r, struct err *err)
{
    if (r != -ERR_INVALID)
        return r;
    if (err != NULL)
        err->code = ERR_CORRUPT;
    return -ERR_CORRUPT;
}

static int unpack_from(struct assembly *a, const char *pack, struct err *err)
{
    struct pack_file file;
    struct full *f = NULL;
    uint64_t bytes = 0;
    int r = open_pack(&file, &bytes, pack, err);

    if (r < 0)
        return r;
    r = full_read(&f, read_pack, &file, bytes, a->manifest, &a->artifact, err);
    if (r == 0)
        r = unpack_all(a, f, &file, err);
    full_free(f);
    close(file.fd);
    return blame(r, err);
}

int assembly_leaves(struct assembly *a, const char *path, uint64_t pack_bytes, struct bitmap *ret,
                    struct err *err)
{
    size_t header = (full_header_bytes(a->manifest->nsegments) + LEAF_BYTES - 1) / LEAF_BYTES;
    struct pack_file file;
    struct full *f = NULL;
    uint64_t bytes = 0;
    int r = open_pack(&file, &bytes, path, err);

    if (r < 0)
        return r;
    r = full_read(&f, read_pack, &file, pack_bytes, a->manifest, &a->artifact, err);
    close(file.fd);
    if (r < 0)
        return blame(r, err);
    bitmap_init(ret, (size_t)((pack_bytes + LEAF_BYTES - 1) / LEAF_BYTES));
    for (size_t i = 0; i < header; i++)
        bitmap_put(ret, i, true);
    for (size_t i = 0; i < a->manifest->nsegments; i++) {
        uint32_t first = 0, count = 0;

        if (!unpack_needed(a->unpack, i))
            continue;
        full_segment_leaves(f, i, &first, &count);
        for (uint32_t k = 0; k < count; k++)
            bitmap_put(ret, first + k, true);
    }
    full_free(f);
    return 0;
}

/* --- a delta --- */

static int unpack_delta(struct assembly *a, struct delta_decoder *decoder, size_t *ret_refused,
                        struct err *err)
{
    unsigned char *segment = mem_alloc(SEGMENT_BYTES);
    int r = 0;

    for (size_t i = 0; r == 0 && i < a->manifest->nsegments; i++) {
        struct err why = ERR_INIT;

        if (!unpack_needed(a->unpack, i))
            continue;
        if (atomic_load(&a->cancelled)) {
            r = err_set(err, ERR_CANCELLED, "another release is wanted");
        } else if (delta_read_segment(decoder, i, segment, &why) < 0) {
            if ((*ret_refused)++ == 0)
                log_info("the delta does not give segment %zu: %s", i, why.text);
        } else {
            r = unpack_segment(a->unpack, i, segment, manifest_segment_bytes(a->manifest, i), err);
        }
    }
    free(segment);
    return r;
}

static int apply_delta(struct assembly *a, struct pack_file *file, uint64_t bytes,
                       struct tree_files *base, struct err *err)
{
    struct delta_files files = { tree_files_read, base };
    struct delta *delta = NULL;
    struct delta_decoder *decoder;
    struct delta_decoder_options o;
    size_t refused = 0;
    int r = delta_read(&delta, read_pack, file, bytes, a->base_manifest, &a->base_artifact,
                       a->manifest, &a->artifact, err);

    if (r < 0)
        return blame(r, err);
    o = (struct delta_decoder_options){ delta,  a->base_manifest, a->manifest,
                                        &files, read_pack,        file };
    decoder = delta_decoder_new(&o);
    r = unpack_delta(a, decoder, &refused, err);
    delta_decoder_free(decoder);
    delta_free(delta);
    a->needed = unpack_needed_bytes(a->unpack);
    if (refused > 0)
        log_info("%zu segments are taken from the full pack", refused);
    return r;
}

int assembly_apply_delta(struct assembly *a, const char *path, struct err *err)
{
    AUTO_FREE char *base = releases_path(a->dir, &a->base);
    AUTO_FREE char *base_tree = mem_printf("%s/tree", base);
    struct tree_files *files = NULL;
    struct pack_file file;
    uint64_t bytes = 0;
    int r = open_pack(&file, &bytes, path, err);

    if (r < 0)
        return r;
    unreserve(a);
    if (tree_files_open(&files, base_tree, a->base_manifest, err) == 0)
        r = apply_delta(a, &file, bytes, files, err);
    else
        r = err_set(err, ERR_CORRUPT, "the base is gone");
    tree_files_close(files);
    close(file.fd);
    return r;
}

/* RELEASE.tmp holds tree, manifest and release.doc, each complete and on disk. */
static int publish(struct assembly *a, struct err *err)
{
    AUTO_FREE char *path = releases_path(a->dir, &a->release);
    AUTO_FREE char *releases = mem_printf("%s/releases", a->dir);
    AUTO_FREE char *staging = mem_printf("%s/staging", a->staging);

    if (dir_remove(staging, err) < 0 || dir_sync(a->staging, err) < 0)
        return -(int)err->code;
    if (rename(a->staging, path) < 0)
        return err_sys(err, errno, "rename %s", a->staging);
    return dir_sync(releases, err);
}

int assembly_finish(struct assembly *a, const char *pack, struct err *err)
{
    int r = 0;

    unreserve(a);
    if (a->needed > 0 && pack == NULL)
        r = err_set(err, ERR_INTERNAL, "a pack is needed");
    if (r == 0 && a->needed > 0)
        r = unpack_from(a, pack, err);
    if (r == 0)
        r = unpack_finish(a->unpack, err);
    if (r < 0)
        return r;
    unpack_close(a->unpack);
    a->unpack = NULL;
    return publish(a, err);
}
