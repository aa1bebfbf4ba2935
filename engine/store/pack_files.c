#include "store/pack_files.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct kept {
    unsigned char *data; /* NULL: empty */
    size_t segment;
    uint64_t used; /* when, by the tick */
};

struct pack_files {
    const struct manifest *m;
    struct store_object *object;
    struct full *full;
    struct full_decoder *decoder;
    pthread_mutex_t lock; /* of the decoder and what follows */
    uint64_t tick;
    struct kept *kept;
    size_t nkept;
};

int pack_files_open(struct pack_files **ret, struct store *s, const struct manifest *m,
                    const struct hash *artifact, const struct hash *pack, size_t kept,
                    struct err *err)
{
    struct pack_files *p = mem_alloc(sizeof(*p));
    int r = store_open_object(s, OBJECT_PACK, pack, &p->object, err);

    p->m = m;
    pthread_mutex_init(&p->lock, NULL);
    p->nkept = kept;
    p->kept = mem_calloc(kept, sizeof(*p->kept));
    if (r == 0)
        r = full_read(&p->full, store_object_read, p->object, store_object_bytes(p->object), m,
                      artifact, err);
    if (r < 0) {
        pack_files_close(p);
        return err_wrap(err, "read the full pack");
    }
    p->decoder = full_decoder_new();
    *ret = p;
    return 0;
}

void pack_files_close(struct pack_files *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->nkept; i++)
        free(p->kept[i].data);
    free(p->kept);
    full_decoder_free(p->decoder);
    full_free(p->full);
    store_object_close(p->object);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* Decodes a segment unless it is kept; the longest unused makes room. */
static int load(struct pack_files *p, size_t segment, const unsigned char **ret, struct err *err)
{
    struct kept *best = &p->kept[0];
    int r;

    for (size_t i = 0; i < p->nkept; i++) {
        struct kept *k = &p->kept[i];

        if (k->data != NULL && k->segment == segment) {
            k->used = ++p->tick;
            *ret = k->data;
            return 0;
        }
        if (k->used < best->used)
            best = k;
    }
    if (best->data == NULL)
        best->data = mem_alloc(SEGMENT_BYTES);
    best->segment = SIZE_MAX;
    r = full_read_segment(p->decoder, p->full, p->m, segment, store_object_read, p->object,
                          best->data, err);
    if (r < 0)
        return r;
    best->segment = segment;
    best->used = ++p->tick;
    *ret = best->data;
    return 0;
}

int pack_files_read(void *pack_files, size_t entry, void *data, size_t len, uint64_t offset,
                    struct err *err)
{
    struct pack_files *p = pack_files;
    const struct entry *e = &p->m->entries[entry];
    unsigned char *out = data;
    int r = 0;

    if (offset > e->size || len > e->size - offset)
        return err_set(err, ERR_CORRUPT, "%s: shorter than is asked for", e->path);
    pthread_mutex_lock(&p->lock);
    for (uint64_t at = e->offset + offset; r == 0 && len > 0;) {
        size_t inside = (size_t)(at % SEGMENT_BYTES);
        size_t n = len < SEGMENT_BYTES - inside ? len : SEGMENT_BYTES - inside;
        const unsigned char *segment = NULL;

        r = load(p, (size_t)(at / SEGMENT_BYTES), &segment, err);
        if (r == 0)
            memcpy(out, segment + inside, n);
        out += n;
        at += n;
        len -= n;
    }
    pthread_mutex_unlock(&p->lock);
    return r;
}
