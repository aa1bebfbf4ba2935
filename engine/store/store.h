/* store.h - blobs by digest: manifests, pack indexes and packs, each immutable.
 *
 * A manifest and an index are named by the SHA-256 of their bytes, checked on every read. A pack is
 * named by its index's digest (wire/pack.h); whoever reads it checks leaves against the index or
 * segments against the manifest. An object is there whole or not at all: put writes beside, fsyncs,
 * renames and fsyncs the directory, and putting what is there already changes nothing. The index is
 * published last, so that an index that is there says that its pack and manifest are (publish.h).
 *
 * The directory backend, "dir:PATH" or PATH:
 *   PATH/{manifest,index,pack}/ab/cdef...   objects
 *   PATH/tmp/                               what is being written; cleaned at open after a day
 *   PATH/corrupt/                           objects that did not match their name
 *   PATH/lock                               held shared by a put, exclusively by store_expire()
 * Several processes and hosts (on a shared mount) may use one directory at once.
 *
 * Calls block: they belong in a work pool. A store may be used from several threads at once.
 * Errors: -ERR_NOT_FOUND, -ERR_CORRUPT (the object has been moved aside), -ERR_NO_SPACE,
 * -ERR_DENIED, -ERR_IO; the text names the path. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include <stdint.h>

enum object_kind { OBJECT_NONE = 0, OBJECT_MANIFEST, OBJECT_INDEX, OBJECT_PACK };

struct store;
struct store_object; /* an object open for reading */

/* Opens, and makes the directory if there is none. */
MUST_CHECK int store_open(struct store **ret, const char *where, struct err *err);
void store_close(struct store *s);

/* A manifest or index from memory; its name is computed and returned in *ret_name (may be NULL). */
MUST_CHECK int store_put(struct store *s, enum object_kind kind, const void *data, size_t len,
                         struct hash *ret_name, struct err *err);

/* A new, empty file beside the store's objects, to be filled and put (or unlinked) by the caller:
 * gives its path and an open read-write descriptor. */
MUST_CHECK int store_temp(struct store *s, char **ret_path, int *ret_fd, struct err *err);

/* Puts the complete file at path; takes the file (it is gone when this returns 0). It may lie on
 * another file system (then it is copied). The caller has verified that it is what name says. */
MUST_CHECK int store_put_file(struct store *s, enum object_kind kind, const struct hash *name,
                              const char *path, struct err *err);

/* Appends a whole manifest or index, verified. */
MUST_CHECK int store_get(struct store *s, enum object_kind kind, const struct hash *name,
                         struct buf *out, struct err *err);

MUST_CHECK int store_open_object(struct store *s, enum object_kind kind, const struct hash *name,
                                 struct store_object **ret, struct err *err);
uint64_t store_object_bytes(const struct store_object *o);
/* All len bytes at offset; -ERR_CORRUPT past the end. Fits pack_read_at with o as ctx. */
MUST_CHECK int store_object_read(void *o, void *data, size_t len, uint64_t offset, struct err *err);
void store_object_close(struct store_object *o); /* NULL is fine */

MUST_CHECK int store_has(struct store *s, enum object_kind kind, const struct hash *name, bool *ret,
                         struct err *err);
/* Not there: fine. */
MUST_CHECK int store_delete(struct store *s, enum object_kind kind, const struct hash *name,
                            struct err *err);
/* When it was put last, ms since 1970 on the store's clock. Putting what is there already renews it.
 */
MUST_CHECK int store_put_time(struct store *s, enum object_kind kind, const struct hash *name,
                              int64_t *ret_ms, struct err *err);
/* Deletes the object unless it was put, or put again, at before_ms or later. A put that runs at this
 * moment either renews the object in time or puts it anew: whatever a put has returned for is there.
 * *ret_gone: it is not there now. */
MUST_CHECK int store_expire(struct store *s, enum object_kind kind, const struct hash *name,
                            int64_t before_ms, bool *ret_gone, struct err *err);
/* Moves an object that turned out wrong aside, so that a right one can be put. */
MUST_CHECK int store_quarantine(struct store *s, enum object_kind kind, const struct hash *name,
                                struct err *err);
/* Calls fn for each object of that kind, in no order; fn < 0 ends it. fn must not put or delete. */
MUST_CHECK int store_list(struct store *s, enum object_kind kind,
                          int (*fn)(void *ctx, const struct hash *name, uint64_t bytes), void *ctx,
                          struct err *err);

/* A backend: embeds struct store first, and fills in ops. */
struct store_ops {
    void (*close)(struct store *s);
    int (*put)(struct store *s, enum object_kind kind, const struct hash *name, const void *data,
               size_t len, struct err *err);
    int (*temp)(struct store *s, char **ret_path, int *ret_fd, struct err *err);
    int (*put_file)(struct store *s, enum object_kind kind, const struct hash *name,
                    const char *path, struct err *err);
    int (*open_object)(struct store *s, enum object_kind kind, const struct hash *name,
                       struct store_object **ret, struct err *err);
    int (*has)(struct store *s, enum object_kind kind, const struct hash *name, bool *ret,
               struct err *err);
    int (*remove)(struct store *s, enum object_kind kind, const struct hash *name, struct err *err);
    int (*put_time)(struct store *s, enum object_kind kind, const struct hash *name,
                    int64_t *ret_ms, struct err *err);
    int (*expire)(struct store *s, enum object_kind kind, const struct hash *name,
                  int64_t before_ms, bool *ret_gone, struct err *err);
    int (*quarantine)(struct store *s, enum object_kind kind, const struct hash *name,
                      struct err *err);
    int (*list)(struct store *s, enum object_kind kind,
                int (*fn)(void *ctx, const struct hash *name, uint64_t bytes), void *ctx,
                struct err *err);
};

struct store {
    const struct store_ops *ops;
};

struct store_object {
    uint64_t bytes;
    int (*read_at)(struct store_object *o, void *data, size_t len, uint64_t offset,
                   struct err *err);
    void (*close)(struct store_object *o);
};

const char *object_kind_name(enum object_kind kind); /* "manifest", "index", "pack" */

#endif
