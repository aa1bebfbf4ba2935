#include "assemble.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sys/statvfs.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/files.h"
#include "releases.h"

struct assembly {
    char *dir, *staging; /* …/releases/RELEASE.tmp */
    struct hash release, artifact, base;
    struct bytes doc, manifest_bytes;
    struct manifest *manifest;
    struct bases *bases;
    struct unpack *unpack;
    uint64_t needed, local;
    atomic_ullong applied, to_apply;
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
    bases_close(a->bases);
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
    uint64_t bytes = unpack_room_bytes(a->unpack);
    int r = bytes == 0 ? 0 : file_reserve(path, bytes, err);

    if (r < 0) {
        (void)unlink(path);
        return err_wrap(err, "reserve %llu bytes", (unsigned long long)bytes);
    }
    return 0;
}

/* What is about to be written needs no reserve any more; what is not keeps it. */
static void reserve_less(const struct assembly *a, const struct bitmap *take)
{
    AUTO_FREE char *path = reserve_path(a);
    uint64_t room = unpack_room_bytes(a->unpack), taken = 0;

    for (size_t i = 0; i < a->manifest->nsegments; i++) {
        if (bitmap_get(take, i) && unpack_needed(a->unpack, i))
            taken += manifest_segment_bytes(a->manifest, i);
    }
    if (taken >= room)
        (void)unlink(path);
    else if (truncate(path, (off_t)(room - taken)) < 0 && errno != ENOENT)
        log_warn("%s keeps its size: %s", path, strerror(errno));
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

static int open_unpack(struct assembly *a, struct err *err)
{
    AUTO_FREE char *staging = mem_printf("%s/staging", a->staging);
    AUTO_FREE char *dest = mem_printf("%s/tree", a->staging);
    struct unpack_options o = { .staging = staging,
                                .dest = dest,
                                .manifest = a->manifest,
                                .artifact = a->artifact,
                                .verify_base = true };

    bases_close(a->bases);
    bases_open(&a->bases, a->dir, &a->release, &a->base);
    o.nbases = bases_trees(a->bases, &o.bases);
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

const struct bases *assembly_bases(const struct assembly *a)
{
    return a->bases;
}

void assembly_cancel(struct assembly *a)
{
    atomic_store(&a->cancelled, true);
}

/* --- packs --- */

static struct offer_target target_of(const struct assembly *a)
{
    return (struct offer_target){ a->manifest, a->artifact };
}

int assembly_read(struct assembly *a, struct offer *o, const char *path, struct err *err)
{
    struct offer_target t = target_of(a);

    return offer_read(o, path, &t, a->bases, err);
}

bool assembly_is_given(const struct assembly *a, const struct offer *o)
{
    if (!offer_is_ready(o))
        return false;
    for (size_t i = 0; i < a->manifest->nsegments; i++) {
        if (unpack_needed(a->unpack, i) && !offer_gives(o, i))
            return false;
    }
    return true;
}

/* The tree's part is reserved, or written. */
static int check_space(const struct assembly *a, uint64_t missing, struct err *err)
{
    struct statvfs st;
    uint64_t avail;

    if (statvfs(a->dir, &st) < 0)
        return err_sys(err, errno, "space of %s", a->dir);
    avail = (uint64_t)st.f_bavail * st.f_frsize;
    if (missing <= avail)
        return 0;
    return err_set(err, ERR_NO_SPACE,
                   "%llu bytes of packs are to be fetched, and %llu of the release written; %llu "
                   "are free besides",
                   (unsigned long long)missing, (unsigned long long)a->needed,
                   (unsigned long long)avail);
}

/* Every needed segment, and every leaf, of the full pack, whose table is not known. */
static void plan_all(const struct assembly *a, const struct offer *full, const struct bitmap *here,
                     struct plan *ret)
{
    *ret = (struct plan){ .npacks = 1 };
    bitmap_init(&ret->take[0], a->manifest->nsegments);
    bitmap_init(&ret->leaves[0], (size_t)((offer_bytes(full) + LEAF_BYTES - 1) / LEAF_BYTES));
    for (size_t i = 0; i < a->manifest->nsegments; i++)
        bitmap_put(&ret->take[0], i, unpack_needed(a->unpack, i));
    for (size_t i = 0; i < ret->leaves[0].bits; i++) {
        uint64_t left = offer_bytes(full) - (uint64_t)i * LEAF_BYTES;

        bitmap_put(&ret->leaves[0], i, true);
        if (!bitmap_get(here, i))
            ret->missing[0] += left < LEAF_BYTES ? left : LEAF_BYTES;
    }
    ret->missing_bytes = ret->missing[0];
}

/* Puts what was planned for the ready ones at their places among all. */
static void spread(struct plan *p, const size_t *places, size_t n)
{
    struct plan all = { .npacks = n, .missing_bytes = p->missing_bytes };

    for (size_t i = 0; i < p->npacks; i++) {
        all.take[places[i]] = p->take[i];
        all.leaves[places[i]] = p->leaves[i];
        all.missing[places[i]] = p->missing[i];
    }
    *p = all;
}

int assembly_plan(struct assembly *a, struct offer *const *offers, size_t n,
                  const struct bitmap *here, struct plan *ret, struct err *err)
{
    struct planner_pack packs[PLANNER_PACKS_MAX];
    size_t places[PLANNER_PACKS_MAX], ready = 0;
    struct bitmap needed;
    bool ok;

    bitmap_init(&needed, a->manifest->nsegments);
    for (size_t i = 0; i < needed.bits; i++)
        bitmap_put(&needed, i, unpack_needed(a->unpack, i));
    for (size_t i = 0; i < n && i < PLANNER_PACKS_MAX; i++) {
        if (offers[i] == NULL || !offer_is_ready(offers[i]))
            continue;
        offer_planner(offers[i], &packs[ready]);
        packs[ready].here = &here[i];
        places[ready++] = i;
    }
    ok = planner_choose(ret, packs, ready, &needed);
    bitmap_release(&needed);
    if (ok)
        spread(ret, places, n);
    else if (n > 0 && offers[0] != NULL && !offer_is_ready(offers[0]))
        plan_all(a, offers[0], &here[0], ret);
    else
        return err_set(err, ERR_NOT_FOUND, "no pack gives all segments");
    if (check_space(a, ret->missing_bytes, err) == 0)
        return 0;
    plan_release(ret);
    return -(int)err->code;
}

size_t assembly_ripe(const struct assembly *a, const struct offer *o, const struct bitmap *take,
                     const struct bitmap *here, size_t max, struct bitmap *ret)
{
    bitmap_init(ret, a->manifest->nsegments);
    for (size_t i = 0; i < a->manifest->nsegments && ret->set < max; i++) {
        if (bitmap_get(take, i) && unpack_needed(a->unpack, i) && offer_can_give(o, i, here))
            bitmap_put(ret, i, true);
    }
    return ret->set;
}

int assembly_apply(struct assembly *a, struct offer *o, const char *path, const struct bitmap *take,
                   size_t *ret_refused, struct err *err)
{
    struct offer_target t = target_of(a);
    struct offer_use use = { &t, a->bases, a->unpack, take, &a->cancelled, &a->applied };
    uint64_t bytes = 0;
    int r;

    for (size_t i = 0; i < a->manifest->nsegments; i++) {
        if (bitmap_get(take, i) && unpack_needed(a->unpack, i))
            bytes += manifest_segment_bytes(a->manifest, i);
    }
    atomic_store(&a->applied, 0);
    atomic_store(&a->to_apply, bytes);
    reserve_less(a, take);
    r = offer_read(o, path, &t, a->bases, err);
    if (r > 0)
        r = err_set(err, ERR_CORRUPT, "the pack's table ends behind it");
    if (r == 0)
        r = offer_apply(o, path, &use, ret_refused, err);
    a->needed = unpack_needed_bytes(a->unpack);
    return r;
}

void assembly_applied(struct assembly *a, uint64_t *ret_bytes, uint64_t *ret_of_bytes)
{
    *ret_bytes = atomic_load(&a->applied);
    *ret_of_bytes = atomic_load(&a->to_apply);
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

int assembly_finish(struct assembly *a, const struct receipt *r, struct err *err)
{
    unreserve(a);
    if (unpack_finish(a->unpack, err) < 0)
        return -(int)err->code;
    unpack_close(a->unpack);
    a->unpack = NULL;
    if (receipt_save(r, a->staging, err) < 0)
        return -(int)err->code;
    return publish(a, err);
}
