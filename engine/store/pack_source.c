#include "store/pack_source.h"

#include <stdlib.h>

#include "base/mem.h"

struct pack_source {
    struct pack_description d;
    struct full *full;
    struct full_decoder *full_decoder;
    struct delta *delta; /* NULL: a full pack */
    struct delta_decoder *decoder;
};

static int open_delta(struct pack_source *s, struct err *err)
{
    const struct pack_description *d = &s->d;
    struct delta_decoder_options o;
    int r;

    if (d->base == NULL)
        return err_set(err, ERR_INVALID, "it is a delta: it needs its base");
    r = delta_read(&s->delta, d->read, d->ctx, d->bytes, d->base, &d->base_id, d->target,
                   &d->target_id, err);
    if (r < 0)
        return r;
    o = (struct delta_decoder_options){
        s->delta, d->base, d->target, d->base_files, d->read, d->ctx
    };
    s->decoder = delta_decoder_new(&o);
    return 0;
}

int pack_source_open(struct pack_source **ret, const struct pack_description *pack, struct err *err)
{
    struct pack_source *s = mem_alloc(sizeof(*s));
    int r;

    s->d = *pack;
    if (pack->kind == PACK_DELTA) {
        r = open_delta(s, err);
    } else {
        s->full_decoder = full_decoder_new();
        r = full_read(&s->full, pack->read, pack->ctx, pack->bytes, pack->target, &pack->target_id,
                      err);
    }
    if (r < 0) {
        pack_source_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

void pack_source_close(struct pack_source *s)
{
    if (s == NULL)
        return;
    delta_decoder_free(s->decoder);
    delta_free(s->delta);
    full_decoder_free(s->full_decoder);
    full_free(s->full);
    free(s);
}

int pack_source_read(struct pack_source *s, size_t i, unsigned char *out, struct err *err)
{
    if (s->delta != NULL)
        return delta_read_segment(s->decoder, i, out, err);
    return full_read_segment(s->full_decoder, s->full, s->d.target, i, s->d.read, s->d.ctx, out,
                             err);
}

bool pack_source_is_copy(const struct pack_source *s, size_t i)
{
    return s->delta != NULL && s->delta->segments[i].encoding == SEGMENT_COPY;
}

int pack_source_check_copy(struct pack_source *s, size_t i, struct err *err)
{
    return delta_check_copy(s->decoder, i, err);
}
