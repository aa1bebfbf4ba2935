#include "assemble.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "delta/full.h"
#include "io/files.h"
#include "releases.h"
#include "store/unpack.h"

struct assembly {
    char *dir, *staging; /* …/releases/RELEASE.tmp */
    struct hash release, artifact, base;
    struct bytes doc, manifest_bytes;
    struct manifest *manifest;
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
    struct manifest *base_manifest = NULL;
    struct hash base_artifact;
    struct unpack_options o = { .staging = staging,
                                .dest = dest,
                                .manifest = a->manifest,
                                .artifact = a->artifact,
                                .verify_base = true };
    int r;

    if (!hash_is_zero(&a->base) &&
        releases_read_manifest(a->dir, &a->base, &base_manifest, &base_artifact, NULL) == 0) {
        o.base = base_tree;
        o.base_manifest = base_manifest;
    }
    r = unpack_open(&a->unpack, &o, err);
    manifest_free(base_manifest);
    return r;
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

static int unpack_from(struct assembly *a, const char *pack, struct err *err)
{
    struct pack_file file;
    struct full *f = NULL;
    struct stat st;
    int r;

    if (file_open_read(&file.fd, pack, err) < 0)
        return -(int)err->code;
    if (fstat(file.fd, &st) < 0)
        r = err_sys(err, errno, "stat %s", pack);
    else
        r = full_read(&f, read_pack, &file, (uint64_t)st.st_size, a->manifest, &a->artifact, err);
    if (r == 0)
        r = unpack_all(a, f, &file, err);
    full_free(f);
    close(file.fd);
    if (r != -ERR_INVALID)
        return r;
    if (err != NULL)
        err->code = ERR_CORRUPT;
    return -ERR_CORRUPT;
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
