#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "store/dir.h"
#include "wire/manifest.h"
#include "wire/msg.h"

const char *object_kind_name(enum object_kind kind)
{
    switch (kind) {
    case OBJECT_MANIFEST:
        return "manifest";
    case OBJECT_INDEX:
        return "index";
    case OBJECT_PACK:
        return "pack";
    case OBJECT_NONE:
        break;
    }
    return "none";
}

int store_open(struct store **ret, const char *where, struct err *err)
{
    const char *path = strncmp(where, "dir:", 4) == 0 ? where + 4 : where;

    if (path == where && strstr(where, "://") != NULL)
        return err_set(err, ERR_INVALID, "store %s: only a directory (dir:PATH) can be a store",
                       where);
    if (path[0] == '\0')
        return err_set(err, ERR_INVALID, "store: no path");
    if (dir_store_open(ret, path, err) < 0)
        return err_wrap(err, "store %s", where);
    return 0;
}

void store_close(struct store *s)
{
    if (s != NULL)
        s->ops->close(s);
}

/* err_wrap() for an operation on an object. */
static int wrap(struct err *err, const char *what, enum object_kind kind, const struct hash *name)
{
    char hex[HASH_HEX];

    return err_wrap(err, "%s %s %.16s", what, object_kind_name(kind), hash_hex(name, hex));
}

int store_put(struct store *s, enum object_kind kind, const void *data, size_t len,
              struct hash *ret_name, struct err *err)
{
    struct hash name = sha256_of(data, len);

    if (kind != OBJECT_MANIFEST && kind != OBJECT_INDEX)
        return err_set(err, ERR_INTERNAL, "a %s is not named by its bytes", object_kind_name(kind));
    if (s->ops->put(s, kind, &name, data, len, err) < 0)
        return wrap(err, "put", kind, &name);
    if (ret_name != NULL)
        *ret_name = name;
    return 0;
}

int store_temp(struct store *s, char **ret_path, int *ret_fd, struct err *err)
{
    return s->ops->temp(s, ret_path, ret_fd, err);
}

int store_put_file(struct store *s, enum object_kind kind, const struct hash *name,
                   const char *path, struct err *err)
{
    return s->ops->put_file(s, kind, name, path, err) < 0 ? wrap(err, "put", kind, name) : 0;
}

int store_get(struct store *s, enum object_kind kind, const struct hash *name, struct buf *out,
              struct err *err)
{
    struct store_object *o = NULL;
    size_t start = out->len;
    struct hash h;
    int r = store_open_object(s, kind, name, &o, err);

    if (r < 0)
        return r;
    if (o->bytes > MANIFEST_MAX_BYTES) {
        r = err_set(err, ERR_LIMIT, "%llu bytes, at most %d fit", (unsigned long long)o->bytes,
                    MANIFEST_MAX_BYTES);
    } else {
        buf_reserve(out, (size_t)o->bytes);
        r = o->read_at(o, out->data + start, (size_t)o->bytes, 0, err);
    }
    if (r == 0) {
        h = sha256_of(out->data + start, (size_t)o->bytes);
        if (!hash_equal(&h, name))
            r = err_set(err, ERR_CORRUPT, "its SHA-256 is not its name; moved aside");
    }
    if (r == 0) {
        out->len = start + (size_t)o->bytes;
        out->data[out->len] = '\0';
    }
    store_object_close(o);
    if (r == -(int)ERR_CORRUPT)
        (void)!s->ops->quarantine(s, kind, name, NULL);
    return r < 0 ? wrap(err, "get", kind, name) : 0;
}

int store_open_object(struct store *s, enum object_kind kind, const struct hash *name,
                      struct store_object **ret, struct err *err)
{
    return s->ops->open_object(s, kind, name, ret, err) < 0 ? wrap(err, "open", kind, name) : 0;
}

uint64_t store_object_bytes(const struct store_object *o)
{
    return o->bytes;
}

int store_object_read(void *o, void *data, size_t len, uint64_t offset, struct err *err)
{
    struct store_object *object = o;

    if (offset > object->bytes || len > object->bytes - offset)
        return err_set(err, ERR_CORRUPT, "ends before byte %llu",
                       (unsigned long long)(offset + len));
    return object->read_at(object, data, len, offset, err);
}

void store_object_close(struct store_object *o)
{
    if (o != NULL)
        o->close(o);
}

int store_has(struct store *s, enum object_kind kind, const struct hash *name, bool *ret,
              struct err *err)
{
    return s->ops->has(s, kind, name, ret, err) < 0 ? wrap(err, "look for", kind, name) : 0;
}

int store_delete(struct store *s, enum object_kind kind, const struct hash *name, struct err *err)
{
    return s->ops->remove(s, kind, name, err) < 0 ? wrap(err, "delete", kind, name) : 0;
}

int store_put_time(struct store *s, enum object_kind kind, const struct hash *name, int64_t *ret_ms,
                   struct err *err)
{
    return s->ops->put_time(s, kind, name, ret_ms, err) < 0 ? wrap(err, "look at", kind, name) : 0;
}

int store_expire(struct store *s, enum object_kind kind, const struct hash *name, int64_t before_ms,
                 bool *ret_gone, struct err *err)
{
    return s->ops->expire(s, kind, name, before_ms, ret_gone, err) < 0
               ? wrap(err, "delete", kind, name)
               : 0;
}

int store_quarantine(struct store *s, enum object_kind kind, const struct hash *name,
                     struct err *err)
{
    return s->ops->quarantine(s, kind, name, err) < 0 ? wrap(err, "move aside", kind, name) : 0;
}

int store_list(struct store *s, enum object_kind kind,
               int (*fn)(void *ctx, const struct hash *name, uint64_t bytes), void *ctx,
               struct err *err)
{
    if (s->ops->list(s, kind, fn, ctx, err) < 0)
        return err_wrap(err, "list %s objects", object_kind_name(kind));
    return 0;
}
